//! Recorded sequences of writes to Kubernetes v1.36: what each patch and apply makes of an object, and who owns its
//! fields afterwards. The sequences are played against an object in memory, with the steps of the API server's pipeline
//! that are in this crate.

use std::collections::HashMap;

use k3s_api::apply::{self, Writer};
use k3s_api::decode::{self, FieldValidation};
use k3s_api::patch::{self, PatchType};
use k3s_api::resource::{self, Resource};
use k3s_api::status::Status;
use k3s_api::strategy::generic;
use serde_json::{Value, json};

/// The resource, name, subresource and query of a path.
struct Target {
    resource: &'static Resource,
    namespace: String,
    name: String,
    subresource: String,
    query: HashMap<String, String>,
}

fn target(path: &str) -> Target {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let group = if parts.remove(0) == "api" { "" } else { parts.remove(0) };
    let version = parts.remove(0);
    let namespace = if parts[0] == "namespaces" && parts.len() > 2 {
        parts.remove(0);
        parts.remove(0)
    } else {
        ""
    };
    let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
    Target {
        resource: resource::find(group, version, parts[0]).unwrap_or_else(|| panic!("no resource {path}")),
        namespace: namespace.to_owned(),
        name: part(1),
        subresource: part(2),
        query: query.collect(),
    }
}

fn bytes(body: &Value) -> Vec<u8> {
    match body {
        Value::String(text) => text.clone().into_bytes(),
        body => body.to_string().into_bytes(),
    }
}

/// One write; `Ok` is the object to store.
fn write(step: &Value, target: &Target, live: Option<&Value>) -> Result<Value, Status> {
    let Target { resource, .. } = target;
    let reset = apply::reset_fields(resource.has_status(), false, &target.subresource);
    let api_version = resource.api_version();
    let writer = Writer {
        schema: resource.schema(),
        api_version: &api_version,
        kind: &resource.kind,
        subresource: &target.subresource,
        manager: target.query.get("fieldManager").map_or("", String::as_str),
        reset: &reset,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let body = bytes(&step["body"]);
    let decoded = |value: Value| -> Result<Value, Status> {
        Ok(decode::decode_object_value(value, resource, FieldValidation::Warn)?.value)
    };
    let mut new = match step["method"].as_str().unwrap_or_default() {
        "POST" | "PUT" => decode::decode_object(&body, resource, FieldValidation::Warn)?.value,
        _ => match PatchType::from_content_type(step["type"].as_str().unwrap_or_default()).expect("a patch") {
            PatchType::Apply => {
                let config = match &step["body"] {
                    // Reading YAML is not this crate's; the key `y` of the one text that is YAML is a boolean there.
                    Value::String(text) if text.starts_with("apiVersion: ") => json!({"apiVersion": "apps/v1",
                        "kind": "Deployment", "metadata": {"name": "d", "annotations": {"true": "1"}}}),
                    Value::String(_) => return Err(Status::bad_request(step["message"].as_str().unwrap_or_default())),
                    body => body.clone(),
                };
                let causes = apply::field_manager_causes(writer.manager, true);
                if !causes.is_empty() {
                    return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", causes));
                }
                if config["metadata"]["name"] != target.name.as_str() {
                    let name = config["metadata"]["name"].as_str().unwrap_or_default();
                    return Err(Status::bad_request(format!(
                        "the name of the object ({name}) does not match the name on the URL ({})",
                        target.name
                    )));
                }
                let new = writer.apply(live, &config, target.query.contains_key("force"))?;
                decoded(new)?
            }
            kind => {
                let Some(live) = live else {
                    return Err(Status::not_found(&resource.group, &resource.plural, &target.name));
                };
                match kind {
                    PatchType::Json => decoded(patch::json::apply(live, &body)?)?,
                    PatchType::Merge => decoded(patch::merge::apply(live, &body)?)?,
                    _ => {
                        let patched = patch::strategic::apply(live, &body, resource.schema())?;
                        decode::decode_patched(patched, resource.schema(), FieldValidation::Warn)
                            .map_err(|error| patch::strategic::undecodable(&body, &error.to_string()))?
                            .value
                    }
                }
            }
        },
    };
    generic::default(resource, &mut new);
    let version = new["metadata"]["resourceVersion"].as_str().unwrap_or("1").to_owned();
    if let Some(live) = live
        && version != live["metadata"]["resourceVersion"].as_str().unwrap_or_default()
        && step["method"] == "PATCH"
    {
        return Err(Status::modified(&resource.group, &resource.plural, &target.name));
    }
    if step["type"] != "application/apply-patch+yaml" {
        writer.update(live, &mut new);
    }
    match live {
        None => {
            new["metadata"]["uid"] = "u".into();
            if resource.namespaced {
                new["metadata"]["namespace"] = target.namespace.as_str().into();
            }
            generic::prepare_create(resource, &mut new);
        }
        Some(live) if target.subresource == "status" => generic::prepare_status(resource, &mut new, live),
        Some(live) => generic::prepare_update(resource, &mut new, live),
    }
    generic::default(resource, &mut new);
    new["metadata"]["resourceVersion"] = "7".into();
    let errors = match live {
        None => generic::validate(resource, &new),
        Some(live) => generic::validate_update(resource, &new, live),
    };
    match errors.is_empty() {
        true => Ok(new),
        false => {
            let causes = errors.into_iter().map(Into::into).collect();
            Err(Status::invalid(&resource.group, &resource.kind, &target.name, causes))
        }
    }
}

/// The entries as they are recorded: without times, in one order.
fn managed_fields(object: &Value) -> Vec<Value> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mut entries: Vec<Value> = entries
        .into_iter()
        .map(|mut entry| {
            entry.as_object_mut().map(|entry| (entry.remove("time"), entry.remove("fieldsType")));
            entry
        })
        .collect();
    entries.sort_by_key(Value::to_string);
    entries
}

fn recorded(step: &Value) -> Vec<Value> {
    let mut entries = step["managedFields"].as_array().cloned().unwrap_or_default();
    entries.sort_by_key(Value::to_string);
    entries
}

#[test]
fn writes_leave_objects_and_owners_as_kubernetes_does() {
    let path = format!("{}/tests/data/managed.json", env!("CARGO_MANIFEST_DIR"));
    let suites: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut failures, mut same) = (Vec::new(), 0);
    for suite in &suites {
        let mut stored: HashMap<String, Value> = HashMap::new();
        for step in suite["steps"].as_array().unwrap() {
            let path = step["path"].as_str().unwrap();
            let mut target = target(path);
            if target.name.is_empty() {
                target.name = step["body"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            }
            let key = format!("{}/{}", target.resource.plural, target.name);
            let label = format!("{} {} {path} {}", suite["suite"], step["method"], step["body"]);
            let live = stored.get(&key).filter(|_| step["method"] != "POST");
            let wanted = step["message"].as_str();
            match (write(step, &target, live), wanted) {
                (Err(status), None) => failures.push(format!("{label}: refused: {status}")),
                (Err(status), Some(message)) if status.message != message => {
                    failures.push(format!("{label}: {status}\n    not {message}"));
                }
                (Err(_), Some(_)) => same += 1,
                (Ok(_), Some(message)) => failures.push(format!("{label}: not refused: {message}")),
                (Ok(new), None) => {
                    let before = failures.len();
                    let pick = |field: &str| match field {
                        "finalizers" | "labels" => new["metadata"].get(field).cloned(),
                        field => new.get(field).cloned(),
                    };
                    for field in ["spec", "status", "data", "finalizers", "labels"] {
                        let (ours, theirs) = (pick(field), step.get(field));
                        // The addresses of a service are allocated after this.
                        let allocated = field == "spec" && target.resource.plural == "services";
                        if theirs.is_some() && ours.as_ref() != theirs && !allocated {
                            failures.push(format!("{label}: {field} {}\n    not {}", json!(ours), json!(theirs)));
                        }
                    }
                    // The answer to a write of the scale is the scale.
                    if target.subresource != "scale" && managed_fields(&new) != recorded(step) {
                        failures.push(format!(
                            "{label}: managed fields {}\n    not {}",
                            json!(managed_fields(&new)),
                            json!(recorded(step))
                        ));
                    }
                    same += usize::from(failures.len() == before);
                    stored.insert(key, new);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{same} the same, {} differ:\n{}", failures.len(), failures.join("\n"));
}
