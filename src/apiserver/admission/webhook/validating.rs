//! ValidatingAdmissionWebhook: all at the same time, any may refuse.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use k3s_api::status::Status;
use serde_json::Value;

use super::failure::Failure;
use super::hook::Hook;
use super::invocation::Invocation;
use super::{Hooks, Metrics, is_exempt};
use crate::admission::followed::Followed;
use crate::admission::rules::{Namespace, Subject};
use crate::admission::versions::Versions;
use crate::admission::{Attributes, Operation, Plugin, request};
use crate::registry::known;

pub struct ValidatingAdmissionWebhook {
    hooks: Followed<Hooks, 1>,
    metrics: Arc<Metrics>,
}

impl ValidatingAdmissionWebhook {
    /// Counts its calls in `metrics`.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { hooks: Followed::new([known::validating_webhook_configurations]), metrics: Arc::clone(metrics) }
    }
}

/// What one webhook is to be asked.
struct Question {
    hook: Arc<Hook>,
    description: Value,
    new: Arc<Value>,
    old: Option<Arc<Value>>,
}

impl Question {
    fn invocation<'a>(&'a self, at: &'a Attributes<'a>, metrics: &'a Metrics) -> Invocation<'a> {
        let (description, old) = (&self.description, self.old.as_deref());
        Invocation { at, description, new: &self.new, old, mutating: false, metrics }
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn validate(&self, at: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(hooks) = self.hooks.get(at.registry, Hooks::read).await? else { return Ok(()) };
        if is_exempt(at) {
            return Ok(());
        }
        let namespace = Namespace::new();
        let subject = Subject::new(at, object, old, &namespace);
        let mut questions = Vec::new();
        for hook in hooks.iter() {
            let Some(found) = hook.matching.find(&subject).await? else { continue };
            let versions = Versions::new(at, &found);
            let new = Arc::new(versions.shown(object).await?.into_owned());
            let old = match old {
                Some(old) => Some(Arc::new(versions.shown(old).await?.into_owned())),
                None => None,
            };
            let description = request::describe(at, versions.row(), &new, old.as_deref());
            let question = Question { hook: Arc::clone(hook), description, new, old };
            if question.invocation(at, &self.metrics).is_wanted(hook).await? {
                questions.push(question);
            }
        }
        let asked = questions.iter().enumerate().map(|(index, question)| async move {
            let hook = &question.hook;
            let answered: Result<_, Failure> = question.invocation(at, &self.metrics).call(hook).await;
            let Err(failure) = answered else { return Ok(()) };
            failure.decide(hook)?;
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            at.annotate(&key, hook.name.as_str());
            Ok(())
        });
        join_all(asked).await.into_iter().collect()
    }
}
