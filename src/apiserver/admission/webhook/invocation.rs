//! One call of one webhook.

use std::time::Instant;

use k3s_api::object;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use serde_json::Value;

use super::failure::{Failure, denied};
use super::hook::Hook;
use super::metrics::Metrics;
use super::review::{self, Answer};
use crate::admission::Attributes;
use crate::admission::evaluation::Evaluation;

/// What a webhook is called about: the objects in the version that its rules are about.
pub struct Invocation<'a> {
    pub at: &'a Attributes<'a>,
    /// See [`super::super::request::describe`].
    pub description: &'a Value,
    pub new: &'a Value,
    pub old: Option<&'a Value>,
    pub mutating: bool,
    pub metrics: &'a Metrics,
}

impl Invocation<'_> {
    /// Whether the webhook's match conditions hold.
    ///
    /// # Errors
    /// 403 if that cannot be told and the webhook must be asked.
    pub async fn is_wanted(&self, hook: &Hook) -> Result<bool, Status> {
        let conditions = match &hook.conditions {
            Ok(conditions) if conditions.is_empty() => return Ok(true),
            Ok(conditions) => conditions,
            Err(error) => return self.undecided(hook, error),
        };
        let mut evaluation = Evaluation::new(self.at, self.description, self.new, self.old);
        match evaluation.holds(conditions).await {
            Ok(holds) => Ok(holds),
            Err(error) => self.undecided(hook, &error),
        }
    }

    fn undecided(&self, hook: &Hook, error: &str) -> Result<bool, Status> {
        match hook.must_answer {
            true => Err(self.at.forbidden(self.new, error)),
            false => Ok(false),
        }
    }

    /// Asks the webhook, and counts that. What it tells the client and the audit log is passed on.
    ///
    /// # Errors
    /// Why it does not let the request pass.
    pub async fn call(&self, hook: &Hook) -> Result<Answer, Failure> {
        let begin = Instant::now();
        let outcome = self.ask(hook).await;
        self.metrics.called(hook, self.at.operation, self.mutating, &outcome, begin.elapsed());
        outcome
    }

    async fn ask(&self, hook: &Hook) -> Result<Answer, Failure> {
        let at = self.at;
        if at.dry_run && !hook.dry_run {
            let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
            return Err(Failure::Refused(Status::bad_request(why)));
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1beta1, v1)";
            return Err(Failure::Calling(why.to_owned()));
        };
        let uid = object::new_uid();
        let asked = review::ask(at, version, &uid, self.description, self.new, self.old);
        let answer = hook.client.post(at.relay, at.registry, &asked, hook.timeout).await;
        let answer = answer.map_err(|why| Failure::Calling(format!("failed to call webhook: {why}")))?;
        let answer = Answer::read(&answer, version, &uid, self.mutating)
            .map_err(|why| Failure::Calling(format!("received invalid webhook response: {why}")))?;
        for (key, value) in &answer.audit_annotations {
            at.annotate(&format!("{}/{key}", hook.name), value.as_str());
        }
        answer.warnings.iter().for_each(|warning| at.warn(warning.clone()));
        match answer.allowed {
            true => Ok(answer),
            false => Err(Failure::Refused(denied(&hook.name, answer.result.as_ref()))),
        }
    }
}
