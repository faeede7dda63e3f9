//! The scopes of quotas: which objects they take in.

use k3s_api::object::{at, text};
use k3s_api::resource::Resource;
use serde_json::Value;

/// Whether the quota's scopes take the object in. Pods have scopes, and claims one.
pub(super) fn takes_in(quota: &Value, row: &Resource, object: &Value) -> bool {
    let scopes = at(quota, &["spec", "scopes"]).and_then(Value::as_array);
    let mut scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
    let expressions = at(quota, &["spec", "scopeSelector", "matchExpressions"]).and_then(Value::as_array);
    let mut expressions = expressions.into_iter().flatten();
    let plural = if row.group.is_empty() { &*row.plural } else { "" };
    scopes.all(|scope| has(scope, plural, object)) && expressions.all(|expression| fits(expression, plural, object))
}

/// Whether it has any.
pub(super) fn is_scoped(quota: &Value) -> bool {
    let given = |path: &[&str]| at(quota, path).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    given(&["spec", "scopes"]) || given(&["spec", "scopeSelector", "matchExpressions"])
}

fn fits(expression: &Value, plural: &str, object: &Value) -> bool {
    let scope = text(expression, &["scopeName"]).unwrap_or_default();
    let class = match (scope, plural) {
        ("PriorityClass", "pods") => text(object, &["spec", "priorityClassName"]),
        ("VolumeAttributesClass", "persistentvolumeclaims") => text(object, &["spec", "volumeAttributesClassName"]),
        _ => None,
    };
    let values = expression.get("values").and_then(Value::as_array);
    let named = values.is_some_and(|values| values.iter().any(|value| class.is_some_and(|class| value == class)));
    let is_about = applies(scope, plural);
    match text(expression, &["operator"]).unwrap_or_default() {
        "In" if matches!(scope, "PriorityClass" | "VolumeAttributesClass") => named,
        "NotIn" if matches!(scope, "PriorityClass" | "VolumeAttributesClass") => is_about && !named,
        "DoesNotExist" => is_about && !has(scope, plural, object),
        _ => has(scope, plural, object),
    }
}

/// Whether objects of that kind can have the scope at all.
fn applies(scope: &str, plural: &str) -> bool {
    match plural {
        "pods" => scope != "VolumeAttributesClass",
        "persistentvolumeclaims" => scope == "VolumeAttributesClass",
        _ => false,
    }
}

fn has(scope: &str, plural: &str, object: &Value) -> bool {
    if !applies(scope, plural) {
        return false;
    }
    let class = |field: &str| text(object, &["spec", field]).is_some_and(|class| !class.is_empty());
    let terminating = || at(object, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some();
    let best_effort = || text(object, &["status", "qosClass"]) == Some("BestEffort");
    match scope {
        "Terminating" => terminating(),
        "NotTerminating" => !terminating(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => class("priorityClassName"),
        "VolumeAttributesClass" => class("volumeAttributesClassName"),
        "CrossNamespacePodAffinity" => reaches_out(object),
        _ => false,
    }
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn reaches_out(pod: &Value) -> bool {
    let term = |term: &Value| {
        let named = term["namespaces"].as_array().is_some_and(|namespaces| !namespaces.is_empty());
        named || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        let terms = |field: &str| affinity[field].as_array().cloned().unwrap_or_default();
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(term)
            || terms("preferredDuringSchedulingIgnoredDuringExecution").iter().any(|it| term(&it["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use k3s_api::resource;
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_select_pods_and_claims() {
        let pods = resource::find("", "v1", "pods").unwrap();
        let claims = resource::find("", "v1", "persistentvolumeclaims").unwrap();
        let maps = resource::find("", "v1", "configmaps").unwrap();
        let short = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high"},
            "status": {"qosClass": "BestEffort"}});
        let long = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"namespaces": ["other"], "topologyKey": "t"}]}}}, "status": {"qosClass": "Burstable"}});
        let fast = json!({"spec": {"volumeAttributesClassName": "fast"}});
        let scopes = |scopes: Value| json!({"spec": {"scopes": scopes}});
        let select = |scope: &str, operator: &str, values: Value| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
                {"scopeName": scope, "operator": operator, "values": values}]}}})
        };
        for (quota, row, object, expected) in [
            (scopes(json!([])), maps, &fast, true),
            (scopes(json!(["Terminating"])), maps, &fast, false),
            (scopes(json!(["Terminating", "BestEffort"])), pods, &short, true),
            (scopes(json!(["Terminating", "NotBestEffort"])), pods, &short, false),
            (scopes(json!(["NotTerminating"])), pods, &long, true),
            (scopes(json!(["CrossNamespacePodAffinity"])), pods, &long, true),
            (scopes(json!(["CrossNamespacePodAffinity"])), pods, &short, false),
            (select("PriorityClass", "In", json!(["high"])), pods, &short, true),
            (select("PriorityClass", "NotIn", json!(["high"])), pods, &short, false),
            (select("PriorityClass", "NotIn", json!(["high"])), pods, &long, true),
            (select("PriorityClass", "Exists", json!([])), pods, &long, false),
            (select("PriorityClass", "DoesNotExist", json!([])), pods, &long, true),
            (select("VolumeAttributesClass", "In", json!(["fast"])), claims, &fast, true),
            (select("VolumeAttributesClass", "In", json!(["fast"])), pods, &long, false),
        ] {
            assert_eq!(takes_in(&quota, row, object), expected, "{quota} {object}");
        }
    }
}
