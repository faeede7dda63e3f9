//! The groups whose resources say what may happen: networking, rbac, policy, storage, admission and the like.

use serde_json::{Value, json};

use super::{GENERIC, Name, Strategy};
use crate::conversion::horizontal_pod_autoscaler;
use crate::defaults::{
    admissionregistration, apiextensions, autoscaling, core, field, flowcontrol, networking, rbac, resource, service,
    storage,
};
use crate::object;
use crate::validation::{
    admissionregistration as admission_rules, apiextensions as extension_rules, autoscaling as autoscaling_rules,
    policy as rules,
};

/// Nothing special, but a generation that counts changes.
pub const COUNTED: Strategy = Strategy { generation: true, ..GENERIC };

pub const HORIZONTAL_POD_AUTOSCALER_V1: Strategy = Strategy {
    to_stored: horizontal_pod_autoscaler::to_stored,
    from_stored: horizontal_pod_autoscaler::from_stored,
    validate: autoscaling_rules::v1,
    default: autoscaling::v1,
    ..GENERIC
};
pub const HORIZONTAL_POD_AUTOSCALER_V2: Strategy =
    Strategy { validate: autoscaling_rules::v2, default: autoscaling::v2, ..GENERIC };

pub const INGRESS: Strategy = Strategy { validate: rules::ingress, ..COUNTED };
pub const INGRESS_CLASS: Strategy = Strategy { default: networking::ingress_class, ..COUNTED };
pub const NETWORK_POLICY: Strategy =
    Strategy { validate: rules::network_policy, default: networking::network_policy, ..COUNTED };
pub const ENDPOINT_SLICE: Strategy = Strategy {
    validate: rules::endpoint_slice,
    validate_update: rules::endpoint_slice_update,
    default: service::endpoint_slice,
    counts_metadata: |new, old| {
        object::labels(new) != object::labels(old) || object::annotations(new) != object::annotations(old)
    },
    ..COUNTED
};
pub const IP_ADDRESS: Strategy = Strategy { name: Name::PathSegment, ..GENERIC };

/// Names of roles may hold what names of objects may not, such as `system:node`.
pub const ROLE: Strategy = Strategy { validate: rules::role, name: Name::PathSegment, ..GENERIC };
pub const CLUSTER_ROLE: Strategy = Strategy { validate: rules::cluster_role, ..ROLE };
pub const ROLE_BINDING: Strategy = Strategy {
    default: rbac::binding,
    validate: rules::role_binding,
    validate_update: rules::binding_update,
    name: Name::PathSegment,
    ..GENERIC
};
pub const CLUSTER_ROLE_BINDING: Strategy = Strategy { validate: rules::cluster_role_binding, ..ROLE_BINDING };

pub const POD_DISRUPTION_BUDGET: Strategy = Strategy { validate: rules::pod_disruption_budget, ..COUNTED };
pub const RUNTIME_CLASS: Strategy =
    Strategy { validate: rules::runtime_class, validate_update: rules::runtime_class_update, ..GENERIC };

pub const STORAGE_CLASS: Strategy = Strategy {
    validate: rules::storage_class,
    validate_update: rules::storage_class_update,
    default: storage::storage_class,
    ..GENERIC
};
pub const CSI_DRIVER: Strategy = Strategy { default: storage::csi_driver, ..GENERIC };
pub const PRIORITY_CLASS: Strategy = Strategy {
    validate: rules::priority_class,
    validate_update: rules::priority_class_update,
    default: core::priority_class,
    ..COUNTED
};
pub const LEASE: Strategy = Strategy { validate: rules::lease, allow_create_on_update: true, ..GENERIC };

pub const VALIDATING_WEBHOOKS: Strategy = Strategy {
    default: admissionregistration::validating_webhooks,
    validate: admission_rules::validating_webhooks,
    ..COUNTED
};
pub const MUTATING_WEBHOOKS: Strategy = Strategy {
    default: admissionregistration::mutating_webhooks,
    validate: admission_rules::mutating_webhooks,
    ..COUNTED
};
pub const ADMISSION_POLICY: Strategy = Strategy { default: admissionregistration::policy, ..COUNTED };
pub const VALIDATING_ADMISSION_POLICY: Strategy =
    Strategy { validate: crate::admission_policy::validate, ..ADMISSION_POLICY };
pub const MUTATING_ADMISSION_POLICY: Strategy =
    Strategy { validate: crate::admission_policy::mutating::validate, ..ADMISSION_POLICY };
pub const ADMISSION_POLICY_BINDING: Strategy = Strategy { default: admissionregistration::binding, ..COUNTED };

/// Named after version and group, of which the core group's is empty: `v1.`.
pub const API_SERVICE: Strategy = Strategy {
    default: apiextensions::api_service,
    prepare_create: api_service_create,
    name: Name::PathSegment,
    ..GENERIC
};
pub const CUSTOM_RESOURCE_DEFINITION: Strategy = Strategy {
    validate: extension_rules::custom_resource_definition,
    validate_update: extension_rules::custom_resource_definition_update,
    validate_status: extension_rules::custom_resource_definition_status,
    default: apiextensions::custom_resource_definition,
    prepare_create: definition_create,
    prepare_update: definition_update,
    ..COUNTED
};

/// What no other server serves is served here, and so it is available at once.
fn api_service_create(service: &mut Value) {
    if service["spec"]["service"].is_null() {
        let now = crate::time::format_seconds(jiff::Timestamp::now());
        service["status"] = json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available", "lastTransitionTime": now}]});
    }
}

/// The version that objects are stored in is remembered for as long as any may be.
fn definition_create(definition: &mut Value) {
    let stored: Vec<Value> = storage_versions(definition);
    definition["status"] =
        json!({"conditions": null, "acceptedNames": {"kind": "", "plural": ""}, "storedVersions": stored});
}

fn storage_versions(definition: &mut Value) -> Vec<Value> {
    let Some(spec) = field(definition, "spec") else { return Vec::new() };
    crate::defaults::items(spec, "versions")
        .filter(|version| version.get("storage") == Some(&json!(true)))
        .filter_map(|version| version.get("name").cloned())
        .collect()
}

fn definition_update(new: &mut Value, _old: &Value) {
    for version in storage_versions(new) {
        let Some(stored) = new.get_mut("status").and_then(|status| status.get_mut("storedVersions")) else { return };
        match stored.as_array_mut() {
            Some(stored) if !stored.contains(&version) => stored.push(version),
            Some(_) => {}
            None => *stored = json!([version]),
        }
    }
}

pub const FLOW_SCHEMA: Strategy = Strategy { default: flowcontrol::flow_schema, ..COUNTED };
pub const PRIORITY_LEVEL: Strategy = Strategy { default: flowcontrol::priority_level, ..COUNTED };

pub const RESOURCE_CLAIM: Strategy = Strategy { default: resource::resource_claim, ..GENERIC };
pub const RESOURCE_CLAIM_TEMPLATE: Strategy = Strategy { default: resource::resource_claim_template, ..GENERIC };
