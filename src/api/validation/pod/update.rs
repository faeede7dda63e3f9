//! What of a pod can change once it is there.

use serde_json::{Map, Value};

use crate::go_value;
use crate::validation::FieldError;
use crate::validation::Path;
use crate::validation::node::{Errors, Node};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new_root, old_root) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new_root.field("spec"), old_root.field("spec"));
    for list in ["containers", "initContainers"] {
        let (new_list, old_list) = (new_spec.field(list), old_spec.field(list));
        if new_list.len() != old_list.len() {
            // Kubernetes stops here: there is nothing to compare by.
            new_list.forbidden(errors, "pod updates may not add or remove containers");
            return;
        }
        for container in new_list.items() {
            let image = container.field("image");
            if image.text().trim().is_empty() {
                image.required(errors, "");
            }
        }
    }
    deadline(&new_spec.field("activeDeadlineSeconds"), &old_spec.field("activeDeadlineSeconds"), errors);
    tolerations(&new_spec.field("tolerations"), &old_spec.field("tolerations"), errors);
    let wanted = fixed(new_spec.value, old_spec.value);
    if &wanted != old_spec.value {
        let difference = go_value::difference("PodSpec", old_spec.value, &wanted);
        errors.push(FieldError::forbidden(&Path::new("spec"), format!("{MUTABLE}\n{difference}")));
    }
}

/// A pod may get less time, not more.
fn deadline(new: &Node, old: &Node, errors: &mut Errors) {
    match (new.int(), old.int()) {
        (Some(new_seconds), Some(old_seconds)) if new_seconds > old_seconds => {
            new.invalid(errors, format!("must be less than or equal to previous value: {old_seconds}"));
        }
        (None, Some(_)) => new.invalid(errors, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(new: &Node, old: &Node, errors: &mut Errors) {
    let same =
        |a: &Value, b: &Value| ["key", "operator", "value", "effect"].iter().all(|field| a.get(field) == b.get(field));
    for toleration in old.items() {
        if !new.items().any(|kept| same(kept.value, toleration.value)) {
            new.forbidden(errors, "existing toleration can not be modified except its tolerationSeconds");
            return;
        }
    }
}

/// A spec with all that may change as it was.
fn fixed(spec: &Value, old: &Value) -> Value {
    let mut fields = spec.as_object().cloned().unwrap_or_else(Map::new);
    for name in ["activeDeadlineSeconds", "tolerations"] {
        keep(&mut fields, name, old);
    }
    if old.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        keep(&mut fields, "terminationGracePeriodSeconds", old);
    }
    // A pod that waits at a gate may have gates taken away, and be told more narrowly where to run.
    if old.get("schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
        for name in ["schedulingGates", "nodeSelector", "affinity"] {
            keep(&mut fields, name, old);
        }
    }
    for list in ["containers", "initContainers"] {
        let olds = old.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let news = fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, old) in news.zip(olds) {
            if let Some(container) = container.as_object_mut() {
                keep(container, "image", &old);
            }
        }
    }
    Value::Object(fields)
}

fn keep(fields: &mut Map<String, Value>, name: &str, old: &Value) {
    match old.get(name) {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let old = json!({"spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "a"}});
        let mut new = old.clone();
        change(&mut new);
        let mut errors = Errors::new();
        update(&new, &old, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_image_may_change_and_a_command_not() {
        assert!(messages(|pod| pod["spec"]["containers"][0]["image"] = json!("j")).is_empty());
        assert!(messages(|pod| pod["spec"]["tolerations"] = json!([{"operator": "Exists"}])).is_empty());
        let command = messages(|pod| pod["spec"]["containers"][0]["command"] = json!(["x"]));
        assert!(command[0].starts_with(&format!("spec: Forbidden: {MUTABLE}\n@@ ")), "{command:?}");
        assert!(command[0].contains("-   \"Command\": null,\n+   \"Command\": [\n+    \"x\"\n+   ],\n"), "{command:?}");
        let node = messages(|pod| pod["spec"]["nodeName"] = json!("b"));
        assert!(node[0].contains("- \"NodeName\": \"a\",\n+ \"NodeName\": \"b\",\n"), "{node:?}");
        assert_eq!(
            messages(|pod| pod["spec"]["containers"] = json!([])),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
    }
}
