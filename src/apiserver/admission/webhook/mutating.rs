//! MutatingAdmissionWebhook: one after the other, each sees what those before it have changed.

use async_trait::async_trait;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use serde_json::Value;

use super::failure::Failure;
use super::invocation::Invocation;
use super::review::Answer;
use super::{Hooks, is_exempt};
use crate::admission::followed::Followed;
use crate::admission::rules::{Namespace, Subject};
use crate::admission::versions::Versions;
use crate::admission::{Attributes, Operation, Plugin, request};
use crate::registry::known;

pub struct MutatingAdmissionWebhook {
    hooks: Followed<Hooks, 1>,
}

impl Default for MutatingAdmissionWebhook {
    fn default() -> Self {
        Self { hooks: Followed::new([known::mutating_webhook_configurations]) }
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
        for hook in hooks.iter() {
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
            let invocation =
                Invocation { at, description: &description, new: &new, old: before.as_deref(), mutating: true };
            if !invocation.is_wanted(hook).await? {
                continue;
            }
            let patched = match invocation.call(hook).await {
                Ok(answer) => patched(&hook.name, answer, &new, &versions),
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
                    false
                }
            };
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
