//! Requests to create objects, and what Kubernetes v1.36 answers: each case a resource, a body, and either the object
//! as it is created (without what the server allocates) or the message with which it is refused.

use k3s_api::decode::{self, FieldValidation};
use k3s_api::resource::{self, Resource};
use k3s_api::status::{Cause, Status};
use k3s_api::strategy::generic;
use serde_json::{Value, json};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What the pipeline does to a create, but for admission and allocation.
fn create(resource: &Resource, namespace: &str, body: &[u8], strict: FieldValidation) -> Result<Value, Status> {
    let mut object = decode::decode_object(body, resource, strict)?.value;
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.insert("uid".into(), "uid".into());
    metadata.insert("creationTimestamp".into(), "<time>".into());
    if resource.namespaced {
        metadata.insert("namespace".into(), namespace.into());
    }
    if let Some(prefix) = metadata.get("generateName").and_then(Value::as_str).map(str::to_owned) {
        metadata.entry("name").or_insert_with(|| format!("{prefix}xxxxx").into());
    }
    generic::default(resource, &mut object);
    generic::prepare_create(resource, &mut object);
    generic::default(resource, &mut object);
    let errors = generic::validate(resource, &object);
    match errors.is_empty() {
        true => Ok(object),
        false => {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let causes: Vec<Cause> = errors.into_iter().map(Cause::from).collect();
            Err(Status::invalid(&resource.group, &resource.kind, name, causes))
        }
    }
}

fn body(case: &Value) -> Vec<u8> {
    match &case["body"] {
        Value::String(text) => text.clone().into_bytes(),
        body => body.to_string().into_bytes(),
    }
}

fn find(case: &Value) -> &'static Resource {
    let name: Vec<&str> = case["resource"].as_str().unwrap().split('/').collect();
    resource::find(name[0], name[1], name[2]).unwrap()
}

/// What differs between two values, by path.
fn differences(at: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let (a, b) = (
                    a.get(key).unwrap_or(&json!("(absent)")).clone(),
                    b.get(key).unwrap_or(&json!("(absent)")).clone(),
                );
                differences(&format!("{at}.{key}"), &a, &b, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}[{index}]"), a, b, out);
            }
        }
        (_, Value::String(text)) if text.starts_with('<') => {}
        (a, b) if a != b => out.push(format!("{at}: {a}, not {b}")),
        _ => {}
    }
}

#[test]
fn objects_are_created_as_kubernetes_creates_them() {
    let mut failures = Vec::new();
    for case in cases("creates.json") {
        let resource = find(&case);
        let name = format!("{} {}", case["suite"].as_str().unwrap_or_default(), case["resource"].as_str().unwrap());
        match create(resource, case["namespace"].as_str().unwrap_or_default(), &body(&case), FieldValidation::Warn) {
            Err(status) => failures.push(format!("{name}: refused: {status}")),
            Ok(mut ours) => {
                ours["metadata"]["resourceVersion"] = "<rv>".into();
                k3s_api::presence::forget_empty_lists(&mut ours, resource.schema());
                let mut found = Vec::new();
                differences("", &ours, &case["object"], &mut found);
                failures.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
            }
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn objects_are_refused_as_kubernetes_refuses_them() {
    let mut failures = Vec::new();
    for case in cases("refusals.json") {
        let resource = find(&case);
        let strict = match case["query"].as_str() {
            Some("fieldValidation=Strict") => FieldValidation::Strict,
            _ => FieldValidation::Warn,
        };
        let message = case["message"].as_str().unwrap_or_default();
        match create(resource, case["namespace"].as_str().unwrap_or_default(), &body(&case), strict) {
            Ok(_) => failures.push(format!("not refused: {message}")),
            Err(status) if status.message != message => {
                failures.push(format!("{}\n     not {message}", status.message))
            }
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{} refusals differ:\n{}", failures.len(), failures.join("\n"));
}
