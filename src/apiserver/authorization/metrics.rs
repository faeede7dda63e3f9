//! `apiserver_authorization_*`: what authorizers have decided, and how webhooks have answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Authorizer;
use crate::metrics::family::Metric;

/// All of them.
pub(crate) fn all(authorizer: &Authorizer) -> Vec<Metric> {
    let chain = Arc::clone(&authorizer.chain.read());
    let mut decisions = Vec::new();
    for (kind, name, allowed, denied) in chain.decisions() {
        for (decision, count) in [("allowed", allowed), ("denied", denied)] {
            if count > 0 {
                let labels = format!("{{decision=\"{decision}\",name=\"{name}\",type=\"{kind}\"}}");
                decisions.push((labels, count as f64));
            }
        }
    }
    let mut metrics = vec![(
        "apiserver_authorization_decisions_total",
        "counter",
        "Decisions that an authorizer has made; those that it left to the next do not count.",
        decisions,
    )];
    let (mut evaluations, mut open, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    for webhook in chain.webhooks() {
        let (name, counts) = (webhook.name(), webhook.counts());
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64;
        for (result, count) in [("success", &counts.succeeded), ("error", &counts.failed)] {
            evaluations.push((format!("{{name=\"{name}\",result=\"{result}\"}}"), of(count)));
        }
        open.push((format!("{{name=\"{name}\",result=\"error\"}}"), of(&counts.failed_open)));
        excluded.push((format!("{{name=\"{name}\",type=\"Webhook\"}}"), of(&counts.excluded)));
    }
    if !evaluations.is_empty() {
        metrics.extend([
            (
                "apiserver_authorization_webhook_evaluations_total",
                "counter",
                "Questions that a webhook was asked.",
                evaluations,
            ),
            (
                "apiserver_authorization_webhook_evaluations_fail_open_total",
                "counter",
                "Questions that a webhook did not answer and that were left to the next authorizer.",
                open,
            ),
            (
                "apiserver_authorization_match_condition_exclusions_total",
                "counter",
                "Questions that a webhook was not asked, because of its match conditions.",
                excluded,
            ),
        ]);
    }
    let (reloads, mut samples) = (&authorizer.reloads, Vec::new());
    for (status, count) in [("success", &reloads.succeeded), ("failure", &reloads.failed)] {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            samples.push((format!("{{status=\"{status}\"}}"), count as f64));
        }
    }
    if !samples.is_empty() {
        metrics.push((
            "apiserver_authorization_config_controller_automatic_reloads_total",
            "counter",
            "Changes of the authorization configuration.",
            samples,
        ));
    }
    metrics
}
