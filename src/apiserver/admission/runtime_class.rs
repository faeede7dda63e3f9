//! A pod takes overhead, node selector and tolerations from its runtime class.

use async_trait::async_trait;
use k3s_api::object::{self, section_mut, text};
use k3s_api::status::Status;
use serde_json::{Map, Value};

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    async fn admit(&self, at: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        if !at.is("", "pods") || at.operation != Operation::Create {
            return Ok(());
        }
        let Some(name) = text(pod, &["spec", "runtimeClassName"]).map(str::to_owned) else {
            return match object::at(pod, &["spec", "overhead"]).and_then(Value::as_object) {
                Some(overhead) if !overhead.is_empty() => Err(at.forbidden(
                    pod,
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                )),
                _ => Ok(()),
            };
        };
        let Some(class) = at.registry.get(known::runtime_classes(), "", &name).await? else {
            return Err(at.forbidden(pod, format!("pod rejected: RuntimeClass {name:?} not found")));
        };
        let class = class.value()?;
        if let Some(overhead) = object::at(&class, &["overhead", "podFixed"]) {
            let spec = section_mut(pod, "spec");
            if spec.get("overhead").is_some_and(|given| given != overhead) {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(at.forbidden(pod, why));
            }
            spec.insert("overhead".to_owned(), overhead.clone());
        }
        if let Some(scheduling) = class.get("scheduling") {
            schedule(at, pod, scheduling)?;
        }
        Ok(())
    }
}

fn schedule(at: &Attributes<'_>, pod: &mut Value, scheduling: &Value) -> Result<(), Status> {
    let wanted = scheduling.get("nodeSelector").and_then(Value::as_object);
    let mut selector = object::at(pod, &["spec", "nodeSelector"]).and_then(Value::as_object).cloned();
    for (key, value) in wanted.into_iter().flatten() {
        let selector = selector.get_or_insert_with(Map::new);
        if selector.get(key).is_some_and(|given| given != value) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {}",
                selector[key]
            );
            return Err(at.forbidden(pod, why));
        }
        selector.insert(key.clone(), value.clone());
    }
    let spec = section_mut(pod, "spec");
    if let Some(selector) = selector {
        spec.insert("nodeSelector".to_owned(), Value::Object(selector));
    }
    for toleration in scheduling.get("tolerations").and_then(Value::as_array).into_iter().flatten() {
        let tolerations = spec.entry("tolerations").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(tolerations) = tolerations.as_array_mut().filter(|list| !list.contains(toleration)) {
            tolerations.push(toleration.clone());
        }
    }
    Ok(())
}
