//! The core group.

use serde_json::{Value, json};

use super::{GENERIC, Name, Strategy};
use crate::conversion::event;
use crate::defaults::{core, pod, service, volume, workload};
use crate::validation;

pub const POD: Strategy = Strategy {
    warnings: validation::warnings::pod,
    validate: validation::pod::pod,
    validate_create: validation::pod::only_created,
    validate_update: validation::pod::update::update,
    default: pod::pod,
    prepare_create: pod::initial_status,
    generation: true,
    graceful: true,
    ..GENERIC
};

pub const POD_TEMPLATE: Strategy = Strategy {
    warnings: validation::warnings::template_object,
    update_warnings: |new, _| validation::warnings::template_object(new),
    validate: validation::workload::pod_template,
    default: workload::pod_template,
    generation: true,
    ..GENERIC
};

pub const REPLICATION_CONTROLLER: Strategy = Strategy {
    warnings: validation::warnings::workload,
    update_warnings: validation::warnings::changed_template,
    validate: validation::workload::replication_controller,
    default: workload::replication_controller,
    generation: true,
    ..GENERIC
};

pub const SERVICE: Strategy = Strategy {
    warnings: validation::warnings::service,
    update_warnings: |new, _| validation::warnings::service(new),
    validate: validation::service::service,
    validate_update: validation::service::update,
    validate_status: validation::service::status,
    default: service::service,
    name: Name::Label,
    prepare_update: super::service::update,
    ..GENERIC
};

pub const ENDPOINTS: Strategy = Strategy {
    deprecated: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    warnings: validation::warnings::endpoints,
    update_warnings: |new, _| validation::warnings::endpoints(new),
    validate: validation::core::endpoints,
    default: service::endpoints,
    allow_create_on_update: true,
    ..GENERIC
};

pub const SECRET: Strategy = Strategy {
    warnings: validation::warnings::secret,
    update_warnings: |new, _| validation::warnings::secret(new),
    validate: validation::core::secret,
    validate_update: validation::core::secret_update,
    default: core::secret,
    ..GENERIC
};

pub const CONFIG_MAP: Strategy =
    Strategy { validate: validation::core::config_map, validate_update: validation::core::immutable_data, ..GENERIC };

/// An event of `events.k8s.io`, which is stored as one of the core group.
pub const NEW_EVENT: Strategy = Strategy {
    to_stored: event::to_stored,
    from_stored: event::from_stored,
    name: Name::Subdomain,
    validate: |event, errors| validation::event::event(&stored_event(event), errors),
    validate_create: |event, errors| validation::event::strict(&stored_event(event), errors),
    validate_update: |new, old, errors| {
        validation::event::strict_update(&stored_event(new), &stored_event(old), errors);
    },
    ..EVENT
};

/// What is wrong is told in the words of the stored form.
fn stored_event(event: &Value) -> Value {
    let mut event = event.clone();
    event::to_stored(&mut event);
    event
}

pub const EVENT: Strategy =
    Strategy { name: Name::PathSegment, validate: validation::event::event, allow_create_on_update: true, ..GENERIC };

pub const LIMIT_RANGE: Strategy = Strategy {
    validate: validation::limit_range::limit_range,
    default: core::limit_range,
    allow_create_on_update: true,
    ..GENERIC
};

pub const NAMESPACE: Strategy = Strategy {
    validate: validation::core::namespace,
    default: core::namespace,
    prepare_create: namespace_create,
    prepare_update: namespace_update,
    prepare_status: namespace_update,
    name: Name::Label,
    ..GENERIC
};

/// A namespace goes only when the namespace controller has emptied it.
fn namespace_create(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let spec = crate::defaults::object(namespace, "spec");
    match spec.get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(finalizers) if finalizers.iter().any(|finalizer| finalizer == "kubernetes") => {}
        Some(finalizers) => finalizers.push("kubernetes".into()),
        None => spec["finalizers"] = json!(["kubernetes"]),
    }
}

/// Finalizers of the spec change only through the `finalize` subresource.
fn namespace_update(new: &mut Value, old: &Value) {
    new["spec"] = old.get("spec").cloned().unwrap_or_else(|| json!({}));
}

pub const NODE: Strategy = Strategy {
    warnings: validation::warnings::node,
    update_warnings: |new, _| validation::warnings::node(new),
    validate: validation::core::node,
    validate_update: validation::core::node_update,
    default: core::node,
    status_on_create: true,
    ..GENERIC
};

pub const PERSISTENT_VOLUME: Strategy = Strategy {
    warnings: validation::warnings::persistent_volume,
    update_warnings: |new, _| validation::warnings::persistent_volume(new),
    validate: validation::core::persistent_volume,
    validate_update: validation::core::persistent_volume_update,
    default: volume::persistent_volume,
    prepare_create: volume_create,
    ..GENERIC
};

fn volume_create(volume: &mut Value) {
    let now = crate::time::format_seconds(jiff::Timestamp::now());
    volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
}

pub const PERSISTENT_VOLUME_CLAIM: Strategy = Strategy {
    warnings: validation::warnings::persistent_volume_claim,
    update_warnings: |new, _| validation::warnings::persistent_volume_claim(new),
    validate: validation::core::persistent_volume_claim,
    validate_update: validation::core::persistent_volume_claim_update,
    default: volume::persistent_volume_claim,
    prepare_create: claim_create,
    ..GENERIC
};

fn claim_create(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
}

pub const RESOURCE_QUOTA: Strategy = Strategy {
    validate: validation::quota::resource_quota,
    validate_update: validation::quota::resource_quota_update,
    ..GENERIC
};

pub const SERVICE_ACCOUNT: Strategy = Strategy {
    warnings: validation::warnings::service_account,
    update_warnings: validation::warnings::changed_service_account,
    prepare_create: secret_references,
    prepare_update: |new, _| secret_references(new),
    ..GENERIC
};

/// Of a reference to a secret only the name means anything.
fn secret_references(account: &mut Value) {
    for secret in crate::defaults::items(account, "secrets") {
        if let Some(fields) = secret.as_object_mut() {
            fields.retain(|name, _| name == "name");
        }
    }
}

pub const BINDING: Strategy = GENERIC;

pub const COMPONENT_STATUS: Strategy = Strategy { deprecated: "v1 ComponentStatus is deprecated in v1.19+", ..GENERIC };
