//! Objects as Kubernetes v1.36 has answered them (those that `tests/golden` plays again) are the same after a way through
//! protobuf.

use std::collections::BTreeMap;
use std::path::Path;

use k3s_api::{object, protobuf};
use serde_json::Value;

/// The objects in a recorded answer: a list is one, and so is each in an event.
fn objects<'a>(value: &'a Value, into: &mut Vec<&'a Value>) {
    if !object::kind(value).is_empty() {
        into.push(value);
        return;
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| objects(value, into)),
        Value::Array(items) => items.iter().for_each(|value| objects(value, into)),
        _ => {}
    }
}

/// The records have words for what is another each time.
fn with_values(value: &mut Value, field: &str) {
    match value {
        Value::String(text) if text.starts_with("<time") => {
            let is_micro = matches!(field, "acquireTime" | "renewTime" | "eventTime" | "lastObservedTime");
            *text = if is_micro { "2026-01-02T03:04:05.000006Z" } else { "2026-01-02T03:04:05Z" }.to_owned();
        }
        Value::String(text) if text == "<nodePort>" => *value = 30000.into(),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| with_values(value, name)),
        Value::Array(items) => items.iter_mut().for_each(|value| with_values(value, field)),
        _ => {}
    }
}

/// Protobuf knows no difference between nothing, null, and an empty list.
fn without_empty_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(without_empty_lists);
            fields.retain(|_, value| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty));
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty_lists),
        _ => {}
    }
}

/// The items of a list are of the list's kind; JSON says it again in lists of metadata.
fn without_types_of_items(list: &mut Value) {
    for item in
        list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
    {
        item.remove("apiVersion");
        item.remove("kind");
    }
}

#[test]
fn what_kubernetes_answers_comes_back_from_protobuf() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/suites");
    let (mut kinds, mut different) = (BTreeMap::<String, usize>::new(), Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut suite: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        with_values(&mut suite, "");
        for step in suite["steps"].as_array().unwrap() {
            let mut answered = Vec::new();
            objects(&step["response"], &mut answered);
            let is_known = |object: &&Value| protobuf::is_known(object::api_version(object), object::kind(object));
            for object in answered.into_iter().filter(is_known) {
                *kinds.entry(object::kind(object).to_owned()).or_default() += 1;
                let mut object = object.clone();
                let read = protobuf::encode(&object).and_then(|body| protobuf::decode(&body));
                without_empty_lists(&mut object);
                without_types_of_items(&mut object);
                // Some documents don't say of which version they are; protobuf does.
                object.as_object_mut().unwrap().entry("apiVersion").or_insert_with(|| "v1".into());
                match read {
                    Ok(mut read) => {
                        without_empty_lists(&mut read);
                        if read != object {
                            different.push(format!("{}:\n{object}\n{read}", path.display()));
                        }
                    }
                    Err(error) => different.push(format!("{}: {error}:\n{object}", path.display())),
                }
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    let all: usize = kinds.values().sum();
    assert!(all > 1000 && kinds.len() > 70, "{all} objects of {} kinds: {kinds:?}", kinds.len());
}
