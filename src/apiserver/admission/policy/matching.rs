//! Whether a policy or a binding is about a request (`matchConstraints`, `matchResources`).

use k3s_api::object;
use k3s_api::selector::labels::Selector;
use serde_json::Value;

use crate::admission::{Attributes, Operation};

/// Whether the request is within the constraints; absent ones exclude nothing. `namespace` is the request's namespace,
/// or the namespace that the request is about.
pub fn matches(
    constraints: Option<&Value>,
    at: &Attributes<'_>,
    new: &Value,
    old: Option<&Value>,
    namespace: Option<&Value>,
) -> bool {
    let Some(constraints) = constraints.filter(|constraints| constraints.is_object()) else { return true };
    let selector = |name: &str| Selector::from_label_selector(constraints.get(name)).ok();
    let (Some(by_namespace), Some(by_object)) = (selector("namespaceSelector"), selector("objectSelector")) else {
        return false;
    };
    let selects_all = |name: &str| match constraints.get(name).and_then(Value::as_object) {
        Some(selector) => selector.is_empty(),
        None => true,
    };
    if !selects_all("namespaceSelector")
        && let Some(namespace) = namespace
        && !by_namespace.matches(object::labels(namespace))
    {
        return false;
    }
    if !selects_all("objectSelector") {
        let selected = |object: &Value| object.is_object() && by_object.matches(object::labels(object));
        if !selected(new) && !old.is_some_and(selected) {
            return false;
        }
    }
    let rules = |name: &str| constraints.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let excluded = rules("excludeResourceRules").iter().any(|rule| rule_matches(rule, at));
    let included = rules("resourceRules");
    !excluded && (included.is_empty() || included.iter().any(|rule| rule_matches(rule, at)))
}

fn rule_matches(rule: &Value, at: &Attributes<'_>) -> bool {
    let words = |name: &str| rule.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let has = |name: &str, wanted: &str| words(name).any(|word| word == "*" || word == wanted);
    let operation = match at.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
    };
    let resource = |word: &str| {
        let (resource, subresource) = word.split_once('/').unwrap_or((word, ""));
        match word {
            "*" => at.subresource.is_empty(),
            _ => {
                (resource == "*" || resource == at.resource.plural)
                    && (subresource == at.subresource
                        || subresource == "*" && !at.subresource.is_empty()
                        || word == "*/*")
            }
        }
    };
    let scope = match rule.get("scope").and_then(Value::as_str) {
        Some("Namespaced") => at.resource.namespaced,
        Some("Cluster") => !at.resource.namespaced,
        _ => true,
    };
    let names = rule.get("resourceNames").and_then(Value::as_array).filter(|names| !names.is_empty());
    scope
        && has("operations", operation)
        && has("apiGroups", &at.resource.group)
        && has("apiVersions", &at.resource.version)
        && words("resources").any(resource)
        && names.is_none_or(|names| names.iter().any(|name| name == at.name))
}
