//! ResourceQuotas: what can be limited, and of which objects.

use serde_json::Value;

use super::node::{Errors, Node};
use super::pod::resources;

/// What a quota can limit by a name without a domain.
const STANDARD: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// What pods ask for, as opposed to things that are counted.
const COMPUTE: [&str; 9] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

pub fn resource_quota(quota: &Value, errors: &mut Errors) {
    let root = Node::root(quota);
    let spec = root.field("spec");
    let hard = spec.field("hard");
    for (name, amount) in hard.entries() {
        if !name.contains('/') && !name.contains(".storageclass.") {
            resources::resource_name(name, &amount, errors);
            if !is_standard(name) {
                amount.invalid_as(name, errors, "must be a standard resource for quota");
            }
        }
        resources::quantity_value(name, &amount, errors);
    }
    scopes(&spec, errors);
    scope_selector(&spec, errors);
}

fn covers(scope: &str, name: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || COMPUTE.contains(&name)
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Scopes that no object is in together.
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn scopes(spec: &Node, errors: &mut Errors) {
    let (scopes, hard) = (spec.field("scopes"), spec.field("hard"));
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            scopes.invalid(errors, "unsupported scope");
        }
        for (name, _) in hard.entries() {
            if is_standard(name) && !covers(scope.text(), name) {
                scopes.invalid(errors, "unsupported scope applied to resource");
            }
        }
    }
    let has = |name: &str| scopes.items().any(|scope| scope.text() == name);
    if OPPOSITES.iter().any(|pair| pair.iter().all(|scope| has(scope))) {
        scopes.invalid(errors, "conflicting scopes");
    }
}

fn scope_selector(spec: &Node, errors: &mut Errors) {
    let (selector, hard) = (spec.field("scopeSelector"), spec.field("hard"));
    let requirements = selector.field("matchExpressions");
    for requirement in requirements.items() {
        let (scope, operator, values) =
            (requirement.field("scopeName"), requirement.field("operator"), requirement.field("values"));
        if !SCOPES.contains(&scope.text()) {
            scope.invalid_text(errors, ["unsupported scope"]);
        }
        for (name, _) in hard.entries() {
            if is_standard(name) && !covers(scope.text(), name) {
                requirements.invalid(errors, "unsupported scope applied to resource");
            }
        }
        let only_exists = matches!(
            scope.text(),
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        );
        if only_exists && operator.text() != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            operator.invalid_text(errors, [why]);
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required(
                    errors,
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                );
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.invalid(
                    errors,
                    "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector",
                );
            }
            "Exists" | "DoesNotExist" => {}
            _ => operator.invalid_text(errors, ["not a valid selector operator"]),
        }
    }
}

/// Which objects a quota counts is said once.
pub fn resource_quota_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let scopes = new_spec.field("scopes");
    let names =
        |node: &Node| node.items().map(|scope| scope.text().to_owned()).collect::<std::collections::BTreeSet<_>>();
    if names(&scopes) != names(&old_spec.field("scopes")) {
        scopes.invalid(errors, "field is immutable");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(spec: Value) -> Vec<String> {
        crate::validation::wrong(resource_quota, json!({"spec": spec}))
    }

    #[test]
    fn a_quota_limits_what_is_known() {
        assert!(wrong(json!({"hard": {"pods": "1", "count/jobs.batch": "2", "example.com/gpu": "1"}})).is_empty());
        let at = "spec.hard[bogus]: Invalid value: \"bogus\":";
        assert_eq!(
            wrong(json!({"hard": {"bogus": "1"}})),
            [
                format!("{at} must be a standard resource type or fully qualified"),
                format!("{at} must be a standard resource for quota")
            ]
        );
    }

    #[test]
    fn scopes_fit_what_is_limited_and_each_other() {
        let at = "spec.scopes: Invalid value:";
        assert_eq!(
            wrong(json!({"hard": {"services": "1"}, "scopes": ["BestEffort"]})),
            [format!("{at} [\"BestEffort\"]: unsupported scope applied to resource")]
        );
        assert_eq!(
            wrong(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})),
            [format!("{at} [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes")]
        );
        assert_eq!(wrong(json!({"scopes": ["X"]})), [format!("{at} [\"X\"]: unsupported scope")]);
    }
}
