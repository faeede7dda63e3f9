//! admissionregistration.k8s.io

use serde_json::Value;

use super::{at, field, items};

fn rules(object: &mut Value, list: &str) {
    items(object, list).for_each(|rule| fill!(rule, "scope": "*"));
}

fn webhook(webhook: &mut Value) {
    fill!(webhook, "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {},
        "objectSelector": {}, "timeoutSeconds": 10);
    rules(webhook, "rules");
    if let Some(service) = at(webhook, &["clientConfig", "service"]) {
        fill!(service, "port": 443);
    }
}

pub fn validating_webhooks(configuration: &mut Value) {
    items(configuration, "webhooks").for_each(webhook);
}

pub fn mutating_webhooks(configuration: &mut Value) {
    for hook in items(configuration, "webhooks") {
        webhook(hook);
        fill!(hook, "reinvocationPolicy": "Never");
    }
}

fn match_resources(resources: &mut Value) {
    fill!(resources, "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {});
    rules(resources, "resourceRules");
    rules(resources, "excludeResourceRules");
}

/// A ValidatingAdmissionPolicy or MutatingAdmissionPolicy.
pub fn policy(policy: &mut Value) {
    let Some(spec) = field(policy, "spec") else { return };
    fill!(spec, "failurePolicy": "Fail");
    if let Some(constraints) = field(spec, "matchConstraints") {
        match_resources(constraints);
    }
}

/// The binding of either.
pub fn binding(binding: &mut Value) {
    if let Some(resources) = at(binding, &["spec", "matchResources"]) {
        match_resources(resources);
    }
}
