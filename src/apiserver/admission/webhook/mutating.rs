//! MutatingAdmissionWebhook: one after the other, each sees what those before it have changed.

use std::sync::Arc;

use async_trait::async_trait;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::failure::Failure;
use super::hook::Hook;
use super::invocation::Invocation;
use super::review::Answer;
use super::{Hooks, Metrics, is_exempt};
use crate::admission::followed::Followed;
use crate::admission::rules::{Namespace, Subject};
use crate::admission::versions::Versions;
use crate::admission::{Attributes, Operation, Plugin, request};
use crate::audit::PATCH_ANNOTATION;
use crate::registry::known;

pub struct MutatingAdmissionWebhook {
    hooks: Followed<Hooks, 1>,
    metrics: Arc<Metrics>,
}

impl MutatingAdmissionWebhook {
    /// Counts its calls in `metrics`.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { hooks: Followed::new([known::mutating_webhook_configurations]), metrics: Arc::clone(metrics) }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(hooks) = self.hooks.get(at.registry, Hooks::read).await? else { return Ok(()) };
        if is_exempt(at) {
            return Ok(());
        }
        let is_second = {
            let mut rounds = at.reinvocation.lock();
            let is_second = rounds.is_second();
            rounds.webhooks.begin(is_second, object);
            is_second
        };
        let namespace = Namespace::new();
        for (index, hook) in hooks.iter().enumerate() {
            if is_second && !at.reinvocation.lock().webhooks.is_due(&hook.id) {
                continue;
            }
            let found = hook.matching.find(&Subject::new(at, object, old, &namespace)).await?;
            let Some(found) = found else { continue };
            let versions = Versions::new(at, &found);
            let new = versions.shown(object).await?;
            let before = match old {
                Some(old) => Some(versions.shown(old).await?),
                None => None,
            };
            let description = request::describe(at, versions.row(), &new, before.as_deref());
            let invocation = Invocation {
                at,
                description: &description,
                new: &new,
                old: before.as_deref(),
                mutating: true,
                metrics: &self.metrics,
            };
            if !invocation.is_wanted(hook).await? {
                continue;
            }
            let place = format!("round_{}_index_{index}", u8::from(is_second));
            let patched = match invocation.call(hook).await {
                Ok(answer) => {
                    annotate_patch(at, hook, &place, &answer.patch);
                    patched(&hook.name, answer, &new, &versions)
                }
                Err(failure) => Err(failure),
            };
            let changed = match patched {
                Ok(Some(patched)) => {
                    let changed = patched != *new;
                    *object = versions.taken(patched).await?;
                    changed
                }
                Ok(None) => false,
                Err(failure) => {
                    failure.decide(hook)?;
                    at.annotate(&format!("failed-open.mutation.webhook.admission.k8s.io/{place}"), hook.name.as_str());
                    false
                }
            };
            let said = json!({"configuration": hook.configuration(), "webhook": hook.name, "mutated": changed});
            at.annotate(&format!("mutation.webhook.admission.k8s.io/{place}"), said.to_string());
            let mut rounds = at.reinvocation.lock();
            if changed {
                rounds.webhooks.changed();
                rounds.want();
            }
            if hook.reinvoked {
                rounds.webhooks.note(&hook.id);
            }
        }
        at.reinvocation.lock().webhooks.end(object);
        Ok(())
    }
}

/// Tells the audit log what the webhook wants to be changed, where the policy has it write the objects themselves.
fn annotate_patch(at: &Attributes<'_>, hook: &Hook, place: &str, patch: &[u8]) {
    let Ok(patch @ Value::Array(_)) = serde_json::from_slice::<Value>(patch) else { return };
    let said = json!({"configuration": hook.configuration(), "webhook": hook.name, "patch": patch,
        "patchType": "JSONPatch"});
    at.annotate(&format!("{PATCH_ANNOTATION}{place}"), said.to_string());
}

/// The object with the webhook's patch done to it, if it gave one.
fn patched(name: &str, answer: Answer, new: &Value, versions: &Versions<'_>) -> Result<Option<Value>, Failure> {
    let internal = |why: String| Failure::Refused(Status::internal(why));
    if answer.patch.is_empty() {
        return Ok(None);
    }
    let operations: Option<json_patch::Patch> =
        serde_json::from_slice(&answer.patch).map_err(|error| internal(error.to_string()))?;
    let Some(operations) = operations.filter(|operations| !operations.is_empty()) else { return Ok(None) };
    if new.is_null() {
        return Err(internal(format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            quote(name)
        )));
    }
    match answer.patch_type.as_deref() {
        Some("JSONPatch") => {}
        other => {
            let other = quote(other.unwrap_or_default());
            return Err(Failure::Calling(format!("unsupported patch type {other}")));
        }
    }
    let mut value = new.clone();
    json_patch::patch(&mut value, &operations).map_err(|error| internal(error.to_string()))?;
    versions.decoded(value).map(Some).map_err(internal)
}
