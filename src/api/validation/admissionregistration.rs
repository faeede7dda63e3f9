//! Admission webhooks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::node::{Errors, Node};
use super::{FieldError, names, selector, webhook};
use crate::admission_policy::conditions;

/// The forms of reviews that this server writes.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub fn validating_webhooks(configuration: &Value, errors: &mut Errors) {
    webhooks(configuration, false, errors);
}

pub fn mutating_webhooks(configuration: &Value, errors: &mut Errors) {
    webhooks(configuration, true, errors);
}

fn webhooks(configuration: &Value, mutating: bool, errors: &mut Errors) {
    let root = Node::root(configuration);
    let mut seen = BTreeSet::new();
    for hook in root.field("webhooks").items() {
        one(&hook, mutating, errors);
        let name = hook.field("name");
        if !name.is_empty() && !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
    }
}

fn one(hook: &Node, mutating: bool, errors: &mut Errors) {
    full_name(&hook.field("name"), errors);
    hook.field("rules").items().for_each(|rule| rule_with_operations(&rule, errors));
    hook.field("failurePolicy").one_of(errors, &["Fail", "Ignore"]);
    hook.field("matchPolicy").one_of(errors, &["Equivalent", "Exact"]);
    let effects = hook.field("sideEffects");
    match effects.is_set() {
        true => effects.one_of(errors, &["None", "NoneOnDryRun"]),
        false => effects.required(errors, "must specify one of None, NoneOnDryRun"),
    }
    let timeout = hook.field("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        timeout.invalid(errors, "the timeout value must be between 1 and 30 seconds");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector::label_selector(&hook.field(field), errors);
    }
    if mutating {
        hook.field("reinvocationPolicy").one_of(errors, &["IfNeeded", "Never"]);
    }
    webhook::client_config(&hook.field("clientConfig"), errors);
    conditions::compile(hook.value, &hook.path, &conditions::webhook_environment(), errors);
    review_versions(&hook.field("admissionReviewVersions"), errors);
}

fn full_name(name: &Node, errors: &mut Errors) {
    if !name.require(errors) {
        return;
    }
    let before = errors.len();
    name.invalid_text(errors, names::dns1123_subdomain(name.text()));
    if errors.len() == before && name.text().split('.').count() < 3 {
        name.invalid(errors, "should be a domain with at least three segments separated by dots");
    }
}

/// The forms of reviews that a webhook reads, one of which this server must write.
pub(super) fn review_versions(versions: &Node, errors: &mut Errors) {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return versions.required(errors, format!("must specify one of {known}"));
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        match seen.insert(version.text()) {
            true => version.invalid_text(errors, names::dns1035_label(version.text())),
            false => version.invalid(errors, "duplicate version"),
        }
    }
    if !versions.items().any(|version| REVIEW_VERSIONS.contains(&version.text())) {
        versions.invalid(errors, format!("must include at least one of {known}"));
    }
}

fn rule_with_operations(rule: &Node, errors: &mut Errors) {
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions"), ("resources", "resources")] {
        let words = rule.field(field);
        if words.is_empty() {
            words.required(errors, "");
        }
        alone(&words, what, errors);
        // The core group has no name.
        if field != "apiGroups" {
            words.items().filter(Node::is_empty).for_each(|word| word.required(errors, ""));
        }
    }
    let scope = rule.field("scope");
    if scope.is_set() {
        scope.one_of(errors, &["*", "Cluster", "Namespaced"]);
    }
    let operations = rule.field("operations");
    if operations.is_empty() {
        operations.required(errors, "");
    }
    alone(&operations, "operations", errors);
    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    operations.items().for_each(|operation| operation.one_of(errors, &known));
}

/// `*` is everything: nothing stands beside it.
fn alone(words: &Node, what: &str, errors: &mut Errors) {
    if words.len() > 1 && words.items().any(|word| word.text() == "*") {
        errors.push(FieldError::invalid(
            &words.path,
            words.value,
            format!("if '*' is present, must not specify other {what}"),
        ));
    }
}

pub fn validating_policy_binding(binding: &Value, errors: &mut Errors) {
    let root = Node::root(binding);
    let spec = root.field("spec");
    policy_binding(&spec, errors);
    let actions = spec.field("validationActions");
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        action.one_of(errors, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text()) {
            action.duplicate(errors);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        actions.invalid(errors, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
    if seen.is_empty() {
        actions.required(errors, "");
    }
}

pub fn mutating_policy_binding(binding: &Value, errors: &mut Errors) {
    let root = Node::root(binding);
    policy_binding(&root.field("spec"), errors);
}

/// What both kinds of bindings say: of which policy, and with which parameters.
fn policy_binding(spec: &Node, errors: &mut Errors) {
    let policy = spec.field("policyName");
    if policy.require(errors) {
        policy.invalid_text(errors, names::dns1123_subdomain(policy.text()));
    }
    let reference = spec.field("paramRef");
    if !reference.is_set() {
        return;
    }
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.field("name"), reference.field("selector"));
    if !name.is_empty() {
        name.invalid_text(errors, names::path_segment(name.text()));
        if selector.is_set() {
            name.forbidden(errors, BOTH);
        }
    }
    if selector.is_set() {
        selector::label_selector(&selector, errors);
        if !name.is_empty() {
            selector.forbidden(errors, BOTH);
        }
    }
    if name.is_empty() && !selector.is_set() {
        reference.required(errors, "one of name or selector must be specified");
    }
    let action = reference.field("parameterNotFoundAction");
    if action.require(errors) {
        action.one_of(errors, &["Allow", "Deny"]);
    }
}
