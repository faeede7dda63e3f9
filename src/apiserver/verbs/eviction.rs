//! create of a pod's `eviction`: a deletion that disruption budgets may refuse.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use k3s_api::decode::{self, FieldValidation};
use k3s_api::selector::labels;
use k3s_api::status::{Cause, Status};
use k3s_api::{object, schema, time};
use serde_json::{Value, json};

use super::input::Expected;
use super::{delete, input, update};
use crate::Body;
use crate::admission::Operation;
use crate::call::Call;
use crate::encode;
use crate::options::DeleteOptions;
use crate::registry::{Entry, Outcome, known};

/// Seconds after which a client may try again.
const RETRY_SECONDS: u32 = 10;
/// How often a budget that others are spending is looked at again.
const ATTEMPTS: usize = 20;
/// A budget does not remember more pods on their way out than this.
const MAX_DISRUPTED: usize = 2000;

/// Answers with success when the pod is deleted or marked.
pub(crate) async fn evict(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let schema = schema::definition("io.k8s.api.policy.v1.Eviction").ok_or_else(Status::no_such_resource)?;
    let text = input::json_text(&call.headers, body, Expected::of("policy", "v1", "Eviction"))?;
    let mut eviction = decode::decode_kind(&text, "policy", "v1", "Eviction", schema, FieldValidation::Warn)?.value;
    if object::name(&eviction) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let dry_run = DeleteOptions::parse(&call.query, eviction.get("deleteOptions").unwrap_or(&Value::Null))?.dry_run;
    let attributes = call.attributes(Operation::Create, &call.info.name, dry_run);
    call.server.admission().admit(&attributes, &mut eviction, None).await?;
    call.server.admission().validate(&attributes, &eviction, None).await?;
    let mut options = DeleteOptions::parse(&call.query, eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    let entry = update::current(call).await?.ok_or_else(|| call.not_found())?;
    let pod = entry.value()?;
    if !ignores_budgets(&pod) {
        let budgets = budgets(call, &pod).await?;
        match budgets.as_slice() {
            [] => {}
            [budget] => {
                if !unready_may_go(&pod, &budget.value()?.clone()) {
                    spend(call, budget, options.dry_run).await?;
                    // The budget is spent on this very pod.
                    options.uid.get_or_insert_with(|| object::uid(&pod).to_owned());
                }
            }
            _ => {
                let why =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::internal(why));
            }
        }
    }
    let entry = if options.dry_run { Some(entry) } else { mark(call, entry).await? };
    delete::remove(call, entry, &call.info.name, &options).await?;
    Ok(encode::status(call.accept, &Status::created()))
}

/// Notes in the pod's status why it will be gone. Nobody comes to manage that condition. A pod that is gone meanwhile is
/// none.
async fn mark(call: &Call, mut entry: Arc<Entry>) -> Result<Option<Arc<Entry>>, Status> {
    loop {
        let mut pod = (*entry.value()?).clone();
        let now = time::format_seconds(Timestamp::now());
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
        });
        let conditions = object::section_mut(&mut pod, "status").entry("conditions").or_insert_with(|| json!([]));
        let Some(conditions) = conditions.as_array_mut() else { return Ok(Some(entry)) };
        match conditions.iter_mut().find(|other| other["type"] == "DisruptionTarget") {
            Some(other) if other["status"] == "True" => return Ok(Some(entry)),
            Some(other) => *other = condition,
            None => conditions.push(condition),
        }
        let stored = object::encode(&pod);
        match call.registry().update(&call.row, entry.key(), entry.revision(), stored, 0).await? {
            Outcome::Done(marked) => return Ok(Some(marked)),
            Outcome::Lost(Some(now)) => entry = now,
            Outcome::Lost(None) => return Ok(None),
        }
    }
}

/// Pods that do no work any more, or not yet, disturb nobody by going.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = object::text(pod, &["status", "phase"]).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || object::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = object::at(pod, &["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a pod that isn't ready may go without being counted.
fn unready_may_go(pod: &Value, budget: &Value) -> bool {
    let number = |field: &str| object::at(budget, &["status", field]).and_then(Value::as_i64).unwrap_or_default();
    if is_ready(pod) {
        return false;
    }
    let always = object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow");
    always || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

async fn budgets(call: &Call, pod: &Value) -> Result<Vec<Arc<Entry>>, Status> {
    let mut found = Vec::new();
    for entry in call.registry().list(known::pod_disruption_budgets(), call.namespace()).await?.entries {
        let budget = entry.value()?;
        let selector = labels::Selector::from_label_selector(object::at(&budget, &["spec", "selector"]));
        if selector.is_ok_and(|selector| selector.matches(object::labels(pod))) {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Takes one disruption from the budget, in one compare-and-swap, so that two evictions can't take the same one. Who was
/// slower looks again.
async fn spend(call: &Call, budget: &Arc<Entry>, dry_run: bool) -> Result<(), Status> {
    let mut budget = Arc::clone(budget);
    for _ in 0..ATTEMPTS {
        let stored = object::encode(&spent(call, &budget)?);
        if dry_run {
            return Ok(());
        }
        let row = known::pod_disruption_budgets();
        match call.registry().update(row, budget.key(), budget.revision(), stored, 0).await? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Lost(Some(now)) => budget = now,
            // Without a budget there is nothing to spend.
            Outcome::Lost(None) => return Ok(()),
        }
    }
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    Err(Status::too_many_requests(message, RETRY_SECONDS))
}

/// The budget with one disruption less.
fn spent(call: &Call, budget: &Entry) -> Result<Value, Status> {
    let mut value = (*budget.value()?).clone();
    let name = object::name(&value).to_owned();
    let number =
        |value: &Value, field: &str| object::at(value, &["status", field]).and_then(Value::as_i64).unwrap_or_default();
    let refuse = |why: String| {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Err(Status::too_many_requests(message, 0).with_details(|details| {
            details.causes.push(Cause { reason: "DisruptionBudget".into(), message: why, field: String::new() });
        }))
    };
    if number(&value, "observedGeneration") < object::generation(&value) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return refuse(why)
            .map_err(|status: Status| status.with_details(|details| details.retry_after_seconds = RETRY_SECONDS));
    }
    let disrupted =
        object::at(&value, &["status", "disruptedPods"]).and_then(Value::as_object).map_or(0, |map| map.len());
    if disrupted > MAX_DISRUPTED {
        let why = format!("{name}: DisruptedPods map too big - too many evictions not confirmed by PDB controller");
        return Err(Status::forbidden("policy", "poddisruptionbudgets", &name, why));
    }
    let allowed = number(&value, "disruptionsAllowed");
    if allowed <= 0 {
        let (desired, current) = (number(&value, "desiredHealthy"), number(&value, "currentHealthy"));
        return refuse(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ));
    }
    let status = object::section_mut(&mut value, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
    pods[&call.info.name] = time::format_seconds(Timestamp::now()).into();
    Ok(value)
}
