//! `apiserver_admission_webhook_*`: how webhooks answer, and how long they take.

use std::time::Duration;

use super::failure::Failure;
use super::hook::Hook;
use super::review::Answer;
use crate::admission::Operation;
use crate::metrics::family::{Counters, Histograms, Metric};

/// Kubernetes' buckets, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

/// What is counted of all webhooks, by their names.
#[derive(Debug)]
pub struct Metrics {
    durations: Histograms,
    requests: Counters,
    rejections: Counters,
    open: Counters,
}

impl Default for Metrics {
    fn default() -> Self {
        let (requests, rejections, open) = (Counters::default(), Counters::default(), Counters::default());
        Self { durations: Histograms::new(&BUCKETS), requests, rejections, open }
    }
}

impl Metrics {
    /// A webhook has answered, or has not.
    pub(super) fn called(
        &self,
        hook: &Hook,
        operation: Operation,
        mutating: bool,
        outcome: &Result<Answer, Failure>,
        took: Duration,
    ) {
        let (name, operation, kind) = (&hook.name, operation.name(), kind(mutating));
        // The code that the webhook gave, if it did; of one that could not be asked there is none.
        let (rejected, code, error) = match outcome {
            Ok(_) => (false, 200, None),
            Err(Failure::Refused(status)) => (true, status.code, Some("no_error")),
            Err(Failure::Calling(_)) => (hook.must_answer, 0, Some("calling_webhook_error")),
        };
        let labels = format!("name=\"{name}\",operation=\"{operation}\",rejected=\"{rejected}\",type=\"{kind}\"");
        self.requests.count(format!("code=\"{code}\",{labels}"));
        self.durations.observe(labels, took);
        if let Some(error) = error.filter(|_| rejected) {
            self.rejections.count(format!(
                "error_type=\"{error}\",name=\"{name}\",operation=\"{operation}\",rejection_code=\"{code}\",\
                 type=\"{kind}\""
            ));
        }
        if matches!(outcome, Err(Failure::Calling(_))) && !rejected {
            self.open.count(format!("name=\"{name}\",type=\"{kind}\""));
        }
    }

    /// All of them.
    pub fn all(&self) -> [Metric; 4] {
        [
            (
                "apiserver_admission_webhook_admission_duration_seconds",
                "histogram",
                "How long webhooks took.",
                self.durations.samples(),
            ),
            ("apiserver_admission_webhook_request_total", "counter", "Calls of webhooks.", self.requests.samples()),
            (
                "apiserver_admission_webhook_rejection_count",
                "counter",
                "Requests that webhooks have refused, or that were refused because of them.",
                self.rejections.samples(),
            ),
            (
                "apiserver_admission_webhook_fail_open_count",
                "counter",
                "Requests that passed though a webhook could not be asked.",
                self.open.samples(),
            ),
        ]
    }
}

fn kind(mutating: bool) -> &'static str {
    if mutating { "admit" } else { "validating" }
}
