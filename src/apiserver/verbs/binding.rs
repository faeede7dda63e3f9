//! create of a pod's `binding`: the scheduler's decision on which node it runs.

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use k3s_api::decode::{self, FieldValidation};
use k3s_api::status::{Cause, Status};
use k3s_api::{object, schema, time};
use serde_json::{Value, json};

use super::input::{self, Expected};
use super::update::{self, Stored};
use crate::Body;
use crate::admission::Operation;
use crate::call::Call;
use crate::encode;
use crate::options::{WriteKind, WriteOptions};
use crate::registry::key;

/// Answers with success when the pod is bound. A pod is bound once.
pub(crate) async fn bind(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let schema = schema::definition("io.k8s.api.core.v1.Binding").ok_or_else(Status::no_such_resource)?;
    let text = input::json_text(&call.headers, body, Expected::of("", "v1", "Binding"))?;
    let mut binding = decode::decode_kind(&text, "", "v1", "Binding", schema, FieldValidation::Warn)?.value;
    input::check_namespace(call, &mut binding)?;
    if !object::name(&binding).is_empty() && object::name(&binding) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let attributes = call.attributes(Operation::Create, &call.info.name, options.dry_run);
    call.server.admission().admit(&attributes, &mut binding, None).await?;
    let node = target(&binding)?;
    call.server.admission().validate(&attributes, &binding, None).await?;
    let key = key(call.namespace(), &call.info.name);
    let mut current = update::current(call).await?;
    loop {
        let Some(entry) = &current else { return Err(call.not_found()) };
        let old = call.read(entry).await?;
        check(call, &binding, &old)?;
        let mut new = (*old).clone();
        assign(&mut new, &binding, node);
        match update::store(call, entry, &old, new, &options, &key).await? {
            Stored::Done(_) => return Ok(encode::status(call.accept, &Status::created())),
            Stored::Lost(now) => current = now,
        }
    }
}

fn target(binding: &Value) -> Result<&str, Status> {
    let kind = object::text(binding, &["target", "kind"]).unwrap_or_default();
    let name = object::text(binding, &["target", "name"]).unwrap_or_default();
    let mut causes = Vec::new();
    if !matches!(kind, "" | "Node") {
        causes.push(Cause {
            reason: "FieldValueNotSupported".into(),
            message: format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""),
            field: "target.kind".to_owned(),
        });
    }
    if name.is_empty() {
        let message = "Required value".to_owned();
        causes.push(Cause { reason: "FieldValueRequired".into(), message, field: "target.name".to_owned() });
    }
    if causes.is_empty() { Ok(name) } else { Err(Status::invalid("", "Binding", object::name(binding), causes)) }
}

fn check(call: &Call, binding: &Value, pod: &Value) -> Result<(), Status> {
    let name = &call.info.name;
    let refuse = |why: String| Err(Status::conflict("", "pods/binding", name, why));
    let uid = object::uid(binding);
    if !uid.is_empty() && uid != object::uid(pod) {
        let stored = object::uid(pod);
        return refuse(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}"));
    }
    if object::is_deleting(pod) {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match object::text(pod, &["spec", "nodeName"]) {
        Some(node) if !node.is_empty() => refuse(format!("pod {name} is already assigned to node {node:?}")),
        _ => Ok(()),
    }
}

fn assign(pod: &mut Value, binding: &Value, node: &str) {
    object::section_mut(pod, "spec").insert("nodeName".to_owned(), node.into());
    for (key, value) in object::annotations(binding).into_iter().flatten() {
        let annotations = object::metadata_mut(pod).entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let conditions = object::section_mut(pod, "status").entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = Value::Array(Vec::new());
    }
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        let now = time::format_seconds(Timestamp::now());
        conditions.push(json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        }));
    }
}
