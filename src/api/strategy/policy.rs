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
    admissionregistration as admission_rules, apiextensions as extension_rules, apiregistration as registration_rules,
    autoscaling as autoscaling_rules, flowcontrol as flow_rules, networking as network_rules, policy as rules,
    resource as resource_rules, storage as storage_rules, warnings,
};

/// A kind of which an update has to say which version it is of.
const VERSIONED: Strategy = Strategy { allow_unconditional_update: false, ..GENERIC };
/// The same, with a generation that counts changes.
const VERSIONED_AND_COUNTED: Strategy = Strategy { generation: true, ..VERSIONED };

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

pub const INGRESS: Strategy = Strategy {
    warnings: warnings::ingress,
    update_warnings: |new, _| warnings::ingress(new),
    validate: network_rules::ingress,
    validate_create: network_rules::ingress_create,
    ..COUNTED
};
pub const INGRESS_CLASS: Strategy = Strategy {
    default: networking::ingress_class,
    validate: network_rules::ingress_class,
    validate_update: network_rules::ingress_class_update,
    ..COUNTED
};
pub const NETWORK_POLICY: Strategy = Strategy {
    warnings: warnings::network_policy,
    update_warnings: |new, _| warnings::network_policy(new),
    validate: network_rules::network_policy,
    default: networking::network_policy,
    ..COUNTED
};
pub const ENDPOINT_SLICE: Strategy = Strategy {
    warnings: warnings::endpoint_slice,
    update_warnings: |new, _| warnings::endpoint_slice(new),
    validate: rules::endpoint_slice,
    validate_update: rules::endpoint_slice_update,
    default: service::endpoint_slice,
    counts_metadata: |new, old| {
        object::labels(new) != object::labels(old) || object::annotations(new) != object::annotations(old)
    },
    ..COUNTED
};
pub const IP_ADDRESS: Strategy = Strategy {
    name: Name::Address,
    validate: network_rules::ip_address,
    validate_update: network_rules::ip_address_update,
    ..GENERIC
};
pub const SERVICE_CIDR: Strategy =
    Strategy { validate: network_rules::service_cidr, validate_update: network_rules::service_cidr_update, ..GENERIC };

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

pub const POD_DISRUPTION_BUDGET: Strategy =
    Strategy { validate: rules::pod_disruption_budget, ..VERSIONED_AND_COUNTED };
pub const RUNTIME_CLASS: Strategy = Strategy {
    warnings: warnings::runtime_class,
    update_warnings: |new, _| warnings::runtime_class(new),
    validate: rules::runtime_class,
    validate_update: rules::runtime_class_update,
    ..VERSIONED
};

pub const STORAGE_CLASS: Strategy = Strategy {
    warnings: warnings::storage_class,
    update_warnings: |new, _| warnings::storage_class(new),
    validate: storage_rules::storage_class,
    validate_update: storage_rules::storage_class_update,
    default: storage::storage_class,
    ..GENERIC
};
pub const VOLUME_ATTRIBUTES_CLASS: Strategy = Strategy {
    validate: storage_rules::volume_attributes_class,
    validate_update: storage_rules::volume_attributes_class_update,
    ..VERSIONED
};
pub const CSI_DRIVER: Strategy = Strategy {
    default: storage::csi_driver,
    validate: storage_rules::csi_driver,
    validate_update: storage_rules::csi_driver_update,
    ..VERSIONED
};
pub const CSI_NODE: Strategy =
    Strategy { validate: storage_rules::csi_node, validate_update: storage_rules::csi_node_update, ..VERSIONED };
pub const CSI_STORAGE_CAPACITY: Strategy = Strategy {
    warnings: warnings::csi_storage_capacity,
    update_warnings: |new, _| warnings::csi_storage_capacity(new),
    validate: storage_rules::csi_storage_capacity,
    validate_update: storage_rules::csi_storage_capacity_update,
    ..VERSIONED
};
pub const VOLUME_ATTACHMENT: Strategy = Strategy {
    validate: storage_rules::volume_attachment,
    validate_update: storage_rules::volume_attachment_update,
    ..VERSIONED
};
pub const PRIORITY_CLASS: Strategy = Strategy {
    validate: rules::priority_class,
    validate_update: rules::priority_class_update,
    default: core::priority_class,
    ..COUNTED
};
pub const LEASE: Strategy = Strategy { validate: rules::lease, allow_create_on_update: true, ..VERSIONED };

pub const VALIDATING_WEBHOOKS: Strategy = Strategy {
    default: admissionregistration::validating_webhooks,
    validate: admission_rules::validating_webhooks,
    ..VERSIONED_AND_COUNTED
};
pub const MUTATING_WEBHOOKS: Strategy = Strategy {
    default: admissionregistration::mutating_webhooks,
    validate: admission_rules::mutating_webhooks,
    ..VERSIONED_AND_COUNTED
};
pub const ADMISSION_POLICY: Strategy = Strategy { default: admissionregistration::policy, ..VERSIONED_AND_COUNTED };
pub const VALIDATING_ADMISSION_POLICY: Strategy =
    Strategy { validate: crate::admission_policy::validate, ..ADMISSION_POLICY };
pub const MUTATING_ADMISSION_POLICY: Strategy =
    Strategy { validate: crate::admission_policy::mutating::validate, ..ADMISSION_POLICY };
pub const VALIDATING_ADMISSION_POLICY_BINDING: Strategy = Strategy {
    default: admissionregistration::binding,
    validate: admission_rules::validating_policy_binding,
    ..VERSIONED_AND_COUNTED
};
pub const MUTATING_ADMISSION_POLICY_BINDING: Strategy =
    Strategy { validate: admission_rules::mutating_policy_binding, ..VALIDATING_ADMISSION_POLICY_BINDING };

/// Named after version and group, of which the core group's is empty: `v1.`.
pub const API_SERVICE: Strategy = Strategy {
    default: apiextensions::api_service,
    prepare_create: api_service_create,
    validate: registration_rules::api_service,
    name: Name::PathSegment,
    ..VERSIONED
};
pub const CUSTOM_RESOURCE_DEFINITION: Strategy = Strategy {
    validate: extension_rules::custom_resource_definition,
    validate_create: extension_rules::rule_costs,
    validate_update: extension_rules::custom_resource_definition_update,
    validate_status: extension_rules::custom_resource_definition_status,
    default: apiextensions::custom_resource_definition,
    prepare_create: definition_create,
    prepare_update: definition_update,
    ..VERSIONED_AND_COUNTED
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

pub const FLOW_SCHEMA: Strategy = Strategy {
    default: flowcontrol::flow_schema,
    validate: flow_rules::flow_schema,
    validate_status: flow_rules::status,
    ..COUNTED
};
pub const PRIORITY_LEVEL: Strategy = Strategy {
    default: flowcontrol::priority_level,
    validate: flow_rules::priority_level,
    validate_status: flow_rules::status,
    ..COUNTED
};

pub const RESOURCE_CLAIM: Strategy = Strategy {
    default: resource::resource_claim,
    validate_create: resource_rules::resource_claim,
    validate_update: resource_rules::resource_claim_update,
    validate_status: resource_rules::resource_claim_status,
    ..GENERIC
};
pub const RESOURCE_CLAIM_TEMPLATE: Strategy = Strategy {
    default: resource::resource_claim_template,
    validate_create: resource_rules::resource_claim_template,
    validate_update: resource_rules::resource_claim_template_update,
    ..GENERIC
};
pub const DEVICE_CLASS: Strategy = Strategy { validate: resource_rules::device_class, ..COUNTED };
pub const RESOURCE_SLICE: Strategy = Strategy {
    validate: resource_rules::resource_slice,
    validate_update: resource_rules::resource_slice_update,
    ..COUNTED
};
