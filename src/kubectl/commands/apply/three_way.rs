//! The patch that brings a live object to what a file says: what the file adds or changes of the live object, and what it
//! no longer says of what was applied last. Fields that others set stay.
//!
//! With a schema it is a strategic merge patch, in which lists with a merge key are compared element by element; without
//! one a JSON merge patch.

use k3s_api::schema::Schema;
use serde_json::{Map, Value, json};

/// `{}` if there is nothing to do.
pub fn patch(original: Option<&Value>, modified: &Value, current: &Value, schema: Option<Schema<'_>>) -> Value {
    let empty = Value::Null;
    Value::Object(object(original.unwrap_or(&empty), modified, current, schema))
}

fn object(original: &Value, modified: &Value, current: &Value, schema: Option<Schema<'_>>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, wanted) in modified.as_object().into_iter().flatten() {
        if wanted.is_null() {
            // The file asks for the field to be gone.
            if current.get(key).is_some() {
                patch.insert(key.clone(), Value::Null);
            }
            continue;
        }
        let child = schema.and_then(|schema| schema.child(key));
        let before = original.get(key).unwrap_or(&Value::Null);
        match (wanted, current.get(key)) {
            (_, None) => {
                patch.insert(key.clone(), wanted.clone());
            }
            (Value::Object(_), Some(live @ Value::Object(_))) => {
                let inner = object(before, wanted, live, child);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(with_retained_keys(inner, wanted, child)));
                }
            }
            (Value::Array(wanted), Some(Value::Array(live))) => {
                list(key, before.as_array().map_or(&[][..], Vec::as_slice), wanted, live, child, &mut patch);
            }
            (wanted, Some(live)) => {
                if !same(wanted, live) {
                    patch.insert(key.clone(), wanted.clone());
                }
            }
        }
    }
    for key in original.as_object().into_iter().flat_map(Map::keys) {
        // What only a default or another writer has put there in the meantime is not for us to remove.
        if modified.get(key).is_none() && current.get(key).is_some() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// A union that is patched says which of its fields it keeps.
fn with_retained_keys(mut patch: Map<String, Value>, wanted: &Value, schema: Option<Schema<'_>>) -> Map<String, Value> {
    if schema.is_some_and(|schema| schema.patch_strategy().retain_keys) {
        let keys: Vec<&String> = wanted.as_object().into_iter().flat_map(Map::keys).collect();
        patch.insert("$retainKeys".to_owned(), json!(keys));
    }
    patch
}

fn list(
    key: &str,
    original: &[Value],
    wanted: &[Value],
    live: &[Value],
    schema: Option<Schema<'_>>,
    patch: &mut Map<String, Value>,
) {
    let merged = schema.filter(|schema| schema.patch_strategy().merge);
    let merge_key = merged.and_then(Schema::patch_merge_key);
    let all_objects = [original, wanted, live].concat().iter().all(Value::is_object);
    match (merged, merge_key) {
        (Some(schema), Some(merge_key)) if all_objects => {
            by_key(key, merge_key, original, wanted, live, schema.items(), patch);
        }
        (Some(_), None) => scalars(key, original, wanted, live, patch),
        _ => {
            if wanted.len() != live.len() || !wanted.iter().zip(live).all(|(a, b)| same(a, b)) {
                patch.insert(key.to_owned(), Value::Array(wanted.to_vec()));
            }
        }
    }
}

/// A set of scalars: what is missing is added, what was applied and is no longer wanted is deleted.
fn scalars(key: &str, original: &[Value], wanted: &[Value], live: &[Value], patch: &mut Map<String, Value>) {
    let added: Vec<&Value> = wanted.iter().filter(|value| !live.contains(value)).collect();
    let removed: Vec<&Value> =
        original.iter().filter(|value| !wanted.contains(value) && live.contains(value)).collect();
    if !added.is_empty() {
        patch.insert(key.to_owned(), json!(added));
    }
    if !removed.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{key}"), json!(removed));
    }
    if !added.is_empty() || !removed.is_empty() {
        patch.insert(format!("$setElementOrder/{key}"), json!(wanted));
    }
}

fn by_key(
    key: &str,
    merge_key: &str,
    original: &[Value],
    wanted: &[Value],
    live: &[Value],
    schema: Option<Schema<'_>>,
    patch: &mut Map<String, Value>,
) {
    let find =
        |list: &[Value], item: &Value| list.iter().find(|other| same(&other[merge_key], &item[merge_key])).cloned();
    let mut items = Vec::new();
    for item in wanted {
        match find(live, item) {
            None => items.push(item.clone()),
            Some(live) => {
                let before = find(original, item).unwrap_or_default();
                let mut change = object(&before, item, &live, schema);
                if !change.is_empty() {
                    change.insert(merge_key.to_owned(), item[merge_key].clone());
                    items.push(Value::Object(change));
                }
            }
        }
    }
    for item in original {
        if find(wanted, item).is_none() && find(live, item).is_some() {
            items.push(json!({merge_key: item[merge_key], "$patch": "delete"}));
        }
    }
    let kept: Vec<&Value> = live.iter().filter(|item| find(wanted, item).is_some()).collect();
    let in_order = kept.iter().zip(wanted).all(|(live, wanted)| same(&live[merge_key], &wanted[merge_key]));
    if items.is_empty() && in_order {
        return;
    }
    let order: Vec<Value> = wanted.iter().map(|item| json!({merge_key: item[merge_key]})).collect();
    patch.insert(format!("$setElementOrder/{key}"), Value::Array(order));
    if !items.is_empty() {
        patch.insert(key.to_owned(), Value::Array(items));
    }
}

/// Equal, whether a number is written `1` or `1.0`; objects and lists deeply so.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment_schema() -> Option<Schema<'static>> {
        k3s_api::resource::find_kind("apps", "v1", "Deployment").map(|row| row.schema())
    }

    fn deployment(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    /// The live object after the patch.
    fn patched(original: &Value, modified: &Value, current: &Value) -> Value {
        let schema = deployment_schema().unwrap();
        let patch = patch(Some(original), modified, current, Some(schema));
        k3s_api::patch::strategic::apply(current, patch.to_string().as_bytes(), schema).unwrap()
    }

    #[test]
    fn what_others_set_stays_and_what_is_no_longer_said_goes() {
        let original = json!({"spec": {"replicas": 1, "paused": true}});
        let modified = json!({"spec": {"replicas": 2}});
        let current = json!({"spec": {"replicas": 1, "paused": true, "minReadySeconds": 5}});
        assert_eq!(patch(Some(&original), &modified, &current, None), json!({"spec": {"replicas": 2, "paused": null}}));
        assert_eq!(patched(&original, &modified, &current), json!({"spec": {"replicas": 2, "minReadySeconds": 5}}));
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let object = deployment(json!([{"name": "a", "image": "i"}]));
        let mut live = object.clone();
        live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        live["status"] = json!({"replicas": 1});
        assert_eq!(patch(Some(&object), &object, &live, deployment_schema()), json!({}));
    }

    #[test]
    fn lists_are_merged_by_their_key() {
        let original = deployment(json!([{"name": "a", "image": "1"}, {"name": "gone", "image": "1"}]));
        let modified = deployment(json!([{"name": "new", "image": "1"}, {"name": "a", "image": "2"}]));
        let current = deployment(json!([{"name": "a", "image": "1", "tty": true}, {"name": "gone", "image": "1"},
            {"name": "injected", "image": "x"}]));
        let patch = patch(Some(&original), &modified, &current, deployment_schema());
        let spec = &patch["spec"]["template"]["spec"];
        assert_eq!(spec["$setElementOrder/containers"], json!([{"name": "new"}, {"name": "a"}]));
        assert_eq!(
            spec["containers"],
            json!([{"name": "new", "image": "1"}, {"name": "a", "image": "2"}, {"name": "gone", "$patch": "delete"}])
        );
        let result = patched(&original, &modified, &current);
        let names: Vec<&str> = result["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|container| container["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"injected") && !names.contains(&"gone"), "{names:?}");
        assert!(names.iter().position(|n| *n == "new") < names.iter().position(|n| *n == "a"), "{names:?}");
    }

    #[test]
    fn without_a_schema_lists_are_replaced() {
        let modified = json!({"spec": {"list": [1, 2]}});
        let current = json!({"spec": {"list": [1], "other": true}});
        assert_eq!(patch(None, &modified, &current, None), modified);
    }
}
