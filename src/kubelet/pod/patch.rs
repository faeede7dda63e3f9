//! The difference between two statuses of a pod, as a strategic merge patch.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The patch that turns `old` into `new`; `None` if they are the same. Conditions that are not in `new` belong to
/// others and stay.
pub(super) fn diff(old: &PodStatus, new: &PodStatus) -> Result<Option<Value>, serde_json::Error> {
    let (Value::Object(old), Value::Object(new)) = (serde_json::to_value(old)?, serde_json::to_value(new)?) else {
        return Ok(None);
    };
    let mut patch = Map::new();
    for (field, value) in &new {
        let before = old.get(field);
        if before == Some(value) {
            continue;
        }
        match field.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    patch.insert(field.clone(), changed.into());
                }
            }
            // These lists merge by address: what went away must be said.
            "podIPs" | "hostIPs" if before.is_some() => {
                let mut list = vec![json!({ "$patch": "replace" })];
                list.extend(value.as_array().cloned().unwrap_or_default());
                patch.insert(field.clone(), list.into());
            }
            _ => {
                patch.insert(field.clone(), value.clone());
            }
        }
    }
    for field in old.keys().filter(|field| OWNED.contains(&field.as_str()) && !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    Ok((!patch.is_empty()).then(|| patch.into()))
}

/// Fields of the status that the kubelet takes back when they no longer hold.
const OWNED: [&str; 6] =
    ["reason", "message", "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses", "podIP"];

fn changed_conditions(old: Option<&Value>, new: &Value) -> Vec<Value> {
    let find = |of: &Value| {
        old.and_then(Value::as_array).and_then(|list| list.iter().find(|known| known["type"] == of["type"])).cloned()
    };
    let mut changed = Vec::new();
    for condition in new.as_array().into_iter().flatten() {
        let before = find(condition);
        if before.as_ref() == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        // Merged field by field: a reason that went away must be said.
        if let (Some(Value::Object(before)), Value::Object(fields)) = (before, &mut condition) {
            for field in before.keys() {
                fields.entry(field.clone()).or_insert(Value::Null);
            }
        }
        changed.push(condition);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_changed_is_sent() {
        let old = status(json!({"phase": "Pending", "hostIP": "192.0.2.1", "reason": "x",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                           {"type": "Initialized", "status": "True"}, {"type": "example.com/gate", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "hostIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}));
        let patch = diff(&old, &new).unwrap().unwrap();
        assert_eq!(
            patch,
            json!({"phase": "Running", "reason": null,
                "conditions": [{"type": "Ready", "status": "True", "reason": null}]})
        );
        assert_eq!(diff(&new, &new).unwrap(), None);
    }

    #[test]
    fn new_addresses_replace_the_old() {
        let old = status(json!({"podIPs": [{"ip": "10.42.0.1"}]}));
        let new = status(json!({"podIPs": [{"ip": "10.42.0.2"}]}));
        assert_eq!(diff(&old, &new).unwrap().unwrap(), json!({"podIPs": [{"$patch": "replace"}, {"ip": "10.42.0.2"}]}));
    }
}
