//! Pods get the number of their priority class, and at most one class is the default.

use async_trait::async_trait;
use k3s_api::object::{self, section_mut, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    async fn admit(&self, at: &Attributes<'_>, pod: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if !at.is("", "pods") {
            return Ok(());
        }
        match (at.operation, old) {
            (Operation::Create, _) => set_priority(at, pod).await,
            (Operation::Update, Some(old)) => {
                keep(pod, old);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(&self, at: &Attributes<'_>, class: &Value, _: Option<&Value>) -> Result<(), Status> {
        if !at.is("scheduling.k8s.io", "priorityclasses")
            || !matches!(at.operation, Operation::Create | Operation::Update)
            || !is_default(class)
        {
            return Ok(());
        }
        match default_class(at).await? {
            Some(other) if object::name(&other) != object::name(class) => {
                let name = object::name(&other);
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(at.forbidden(class, why))
            }
            _ => Ok(()),
        }
    }
}

/// Clients that don't know these fields leave them out of an update; they can't be changed anyway.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let spec = section_mut(pod, "spec");
        if let (None, Some(value)) = (spec.get(field), object::at(old, &["spec", field])) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or_default()
}

/// Of several defaults (written before there was a check) the lowest counts.
async fn default_class(at: &Attributes<'_>) -> Result<Option<std::sync::Arc<Value>>, Status> {
    let mut found: Option<std::sync::Arc<Value>> = None;
    for entry in at.registry.list(known::priority_classes(), "").await?.entries {
        let class = entry.value()?;
        let value = |class: &Value| class.get("value").and_then(Value::as_i64).unwrap_or_default();
        if is_default(&class) && found.as_ref().is_none_or(|found| value(&class) < value(found)) {
            found = Some(class);
        }
    }
    Ok(found)
}

async fn set_priority(at: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = text(pod, &["spec", "priorityClassName"]).unwrap_or_default().to_owned();
    let class = if name.is_empty() {
        default_class(at).await?
    } else {
        let Some(entry) = at.registry.get(known::priority_classes(), "", &name).await? else {
            return Err(at.forbidden(pod, format!("no PriorityClass with name {name} was found")));
        };
        Some(entry.value()?)
    };
    let priority = class.as_ref().and_then(|class| class.get("value")?.as_i64()).unwrap_or_default();
    let policy = class.as_ref().and_then(|class| class.get("preemptionPolicy")?.as_str().map(str::to_owned));
    let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    let given = object::at(pod, &["spec", "priority"]).and_then(Value::as_i64);
    if let Some(given) = given.filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        );
        return Err(at.forbidden(pod, why));
    }
    let given = text(pod, &["spec", "preemptionPolicy"]).map(str::to_owned);
    if let Some(given) = given.filter(|given| *given != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(at.forbidden(pod, why));
    }
    let spec = section_mut(pod, "spec");
    if let Some(class) = class.filter(|_| name.is_empty()) {
        spec.insert("priorityClassName".to_owned(), object::name(&class).into());
    }
    spec.insert("priority".to_owned(), priority.into());
    spec.insert("preemptionPolicy".to_owned(), policy.into());
    Ok(())
}
