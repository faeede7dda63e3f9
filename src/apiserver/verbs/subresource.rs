//! Subresources that are a part of the object, or another view of it: scale, finalize, approval, ephemeralcontainers,
//! resize. (The status is as regular as the object itself; see `update`.)

use bytes::Bytes;
use http::{Response, StatusCode};
use k3s_api::decode::{self, FieldValidation};
use k3s_api::defaults::pod::qos_class;
use k3s_api::go_value;
use k3s_api::patch::{self, PatchType};
use k3s_api::resource::Resource;
use k3s_api::schema;
use k3s_api::selector::labels;
use k3s_api::status::{Cause, Status};
use k3s_api::strategy::generic;
use k3s_api::validation::FieldError;
use k3s_api::{object, validation};
use serde_json::{Value, json};

use super::create::Written;
use super::input::Expected;
use super::update::{self, Stored};
use super::{input, managed};
use crate::Body;
use crate::admission::Operation;
use crate::call::Call;
use crate::encode;
use crate::options::{WriteKind, WriteOptions};
use crate::registry::{Row, key};
use k3s_api::structural::ScalePaths;

/// Takes over from `new` only what belongs to the subresource of that name. Returns what is wrong with it.
pub(crate) fn prepare(name: &str, row: &Resource, new: &mut Value, old: &Value) -> Result<Vec<FieldError>, Status> {
    let wanted = std::mem::replace(new, old.clone());
    carry_metadata(new, &wanted);
    match name {
        "finalize" => carry(new, &wanted, &["spec", "finalizers"]),
        "approval" => carry(new, &wanted, &["status", "conditions"]),
        // Only the replicas differ, wherever they are.
        "scale" => *new = wanted,
        "ephemeralcontainers" => carry(new, &wanted, &["spec", "ephemeralContainers"]),
        "resize" => carry_resources(new, &wanted),
        // Binding: the scheduler's decision, which the verb has already checked.
        "binding" => *new = wanted,
        _ => return Err(Status::no_such_resource()),
    }
    if name == "finalize" {
        let mut errors = Vec::new();
        validation::metadata::validate_update(new, old, &mut errors);
        return Ok(errors);
    }
    if name == "approval" {
        let mut errors = Vec::new();
        (row.strategy.prepare_status)(new, old);
        (row.strategy.validate_status)(new, old, &mut errors);
        return Ok(errors);
    }
    if name == "binding" {
        return Ok(Vec::new());
    }
    let prepared = new.clone();
    generic::prepare_update(row, new, old);
    if name == "ephemeralcontainers" || name == "resize" {
        // These may change what an ordinary update may not.
        *new = prepared;
        let count = object::generation(old) + i64::from(new.get("spec") != old.get("spec"));
        object::metadata_mut(new).insert("generation".to_owned(), count.into());
        let mut errors = Vec::new();
        (row.strategy.validate)(new, &mut errors);
        check_ephemeral(new, old, &mut errors);
        let class = qos_class(new.get("spec").unwrap_or(&Value::Null));
        if let Some(had) = object::text(old, &["status", "qosClass"]).filter(|had| *had != class) {
            let why = "Pod QOS Class may not change as a result of resizing";
            errors.push(FieldError::invalid(&validation::Path::new("spec"), had, why));
        }
        return Ok(errors);
    }
    Ok(generic::validate_update(row, new, old))
}

/// A debugging container that is there stays as it is.
fn check_ephemeral(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let list = |pod: &Value| {
        let list = object::at(pod, &["spec", "ephemeralContainers"]).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let wanted = list(new);
    for container in list(old) {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        let what = match wanted.iter().find(|other| other.get("name") == container.get("name")) {
            None => "removed\n".to_owned(),
            Some(other) if *other != container => {
                format!("changed\n{}", go_value::difference("EphemeralContainer", &container, other))
            }
            Some(_) => continue,
        };
        let spec = validation::Path::new("spec");
        let why = format!("existing ephemeral containers {name:?} may not be {what}");
        errors.push(FieldError::forbidden(&spec.child("ephemeralContainers"), why));
    }
}

/// Sets what lies at a path.
fn set(object: &mut Value, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => drop(object.as_object_mut().map(|fields| fields.insert(last.clone(), value))),
        [first, rest @ ..] => {
            object::section_mut(object, first);
            set(&mut object[first.as_str()], rest, value);
        }
    }
}

/// The field managers go with every write, and so does the version the client has seen.
fn carry_metadata(new: &mut Value, wanted: &Value) {
    for field in ["managedFields", "resourceVersion"] {
        match object::at(wanted, &["metadata", field]) {
            Some(value) => object::metadata_mut(new).insert(field.to_owned(), value.clone()),
            None => object::metadata_mut(new).remove(field),
        };
    }
}

fn carry(new: &mut Value, wanted: &Value, path: &[&str; 2]) {
    let section = object::section_mut(new, path[0]);
    match object::at(wanted, path) {
        Some(value) => section.insert(path[1].to_owned(), value.clone()),
        None => section.remove(path[1]),
    };
}

fn carry_resources(new: &mut Value, wanted: &Value) {
    for list in ["containers", "initContainers"] {
        let wanted = object::at(wanted, &["spec", list]).and_then(Value::as_array).cloned().unwrap_or_default();
        let containers = object::section_mut(new, "spec").get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let Some(other) = wanted.iter().find(|other| other.get("name") == container.get("name")) else { continue };
            for field in ["resources", "resizePolicy"] {
                match other.get(field) {
                    Some(value) => container.insert(field.to_owned(), value.clone()),
                    None => container.remove(field),
                };
            }
        }
    }
}

/// Where an object has its replicas.
fn scale_paths(call: &Call) -> ScalePaths {
    let of = |path: [&str; 2]| path.map(str::to_owned).to_vec();
    let own = call.row.custom().and_then(|custom| custom.scale.clone());
    own.unwrap_or_else(|| ScalePaths {
        spec_replicas: of(["spec", "replicas"]),
        status_replicas: of(["status", "replicas"]),
        label_selector: None,
    })
}

fn follow<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

/// The `Scale` view of an object.
fn scale(call: &Call, object: &Value) -> Value {
    let paths = scale_paths(call);
    let metadata = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: serde_json::Map<String, Value> = metadata
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), object::at(object, &["metadata", field])?.clone())))
        .collect();
    let number = |path: &[String]| follow(object, path).and_then(Value::as_i64).unwrap_or_default();
    let mut spec = json!({});
    if number(&paths.spec_replicas) != 0 {
        spec["replicas"] = number(&paths.spec_replicas).into();
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    let selector = match object::at(object, &["spec", "selector"]) {
        _ if matches!(call.row, Row::Custom(_)) => {
            let own = paths.label_selector.as_ref().and_then(|path| follow(object, path)?.as_str());
            own.unwrap_or_default().to_owned()
        }
        // Replication controllers have plain labels.
        Some(Value::Object(map)) if object::kind(object) == "ReplicationController" => {
            labels::Selector::from_map(map).to_string()
        }
        selector => labels::Selector::from_label_selector(selector).map(|s| s.to_string()).unwrap_or_default(),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// get of scale.
pub(crate) async fn get_scale(call: &Call) -> Result<Response<Body>, Status> {
    let entry = update::current(call).await?.ok_or_else(|| call.not_found())?;
    encode::document(call.accept, StatusCode::OK, &scale(call, &*call.read(&entry).await?))
}

/// update and patch of scale.
pub(crate) async fn write_scale(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let schema = schema::definition("io.k8s.api.autoscaling.v1.Scale").ok_or_else(Status::no_such_resource)?;
    let patch = (call.info.verb == "patch").then(|| super::patch::patch_type(call)).transpose()?;
    let options = match patch {
        Some(kind) => super::patch::options(call, kind)?,
        None => WriteOptions::parse(&call.query, WriteKind::Update)?,
    };
    let key = key(call.namespace(), &call.info.name);
    let mut current = update::current(call).await?;
    loop {
        let Some(entry) = &current else { return Err(call.not_found()) };
        let old = call.read(entry).await?;
        let wanted = match patch {
            None => {
                let (group, version, kind) = ("autoscaling", "v1", "Scale");
                let text = input::json_text(&call.headers, body, Expected::of(group, version, kind))?;
                let mut scale = decode::decode_kind(&text, group, version, kind, schema, FieldValidation::Warn)?.value;
                input::check_place(call, &mut scale)?;
                scale
            }
            Some(PatchType::Json) => patch::json::apply(&scale(call, &old), body)?,
            Some(PatchType::Merge | PatchType::Apply) => {
                patch::merge::apply(&scale(call, &old), &input::yaml_to_json(body)?)?
            }
            Some(PatchType::StrategicMerge) => patch::strategic::apply(&scale(call, &old), body, schema)?,
        };
        let decoded = decode::decode_value(wanted, schema, FieldValidation::Ignore);
        let mut wanted = decoded.map_err(|error| Status::bad_request(error.to_string()))?.value;
        let attributes = call.attributes(Operation::Update, &call.info.name, options.dry_run);
        let scale_before = scale(call, &old);
        call.server.admission().admit(&attributes, &mut wanted, Some(&scale_before)).await?;
        let replicas = object::at(&wanted, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or_default();
        if replicas < 0 {
            let cause = Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
                field: "spec.replicas".to_owned(),
            };
            return Err(Status::invalid("autoscaling", "Scale", &call.info.name, vec![cause]));
        }
        call.server.admission().validate(&attributes, &wanted, Some(&scale_before)).await?;
        let mut new = (*old).clone();
        set(&mut new, &scale_paths(call).spec_replicas, replicas.into());
        let version = object::resource_version(&wanted).to_owned();
        object::set_metadata(&mut new, "resourceVersion", &version);
        managed::track(call, &options, Some(&old), &mut new);
        match update::store(call, entry, &old, new, &options, &key).await? {
            Stored::Done(Written::Stored(entry)) => {
                return encode::document(call.accept, StatusCode::OK, &scale(call, &*call.read(&entry).await?));
            }
            Stored::Done(Written::DryRun(value)) => {
                return encode::document(call.accept, StatusCode::OK, &scale(call, &value));
            }
            Stored::Lost(now) => current = now,
        }
    }
}
