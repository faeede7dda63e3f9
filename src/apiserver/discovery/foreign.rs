//! Versions that aggregated API servers serve, in the forms of discovery.

use serde_json::{Value, json};

use crate::aggregator::Foreign;

/// A version in the document of all versions: `APIVersionDiscovery`.
pub(super) fn version(foreign: &Foreign) -> Value {
    let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let mut resources: Vec<Value> = foreign
        .resources
        .iter()
        .filter(|entry| !name(entry).contains('/'))
        .map(|entry| resource(foreign, entry))
        .collect();
    for entry in &foreign.resources {
        let name = name(entry);
        let Some((of, part)) = name.split_once('/') else { continue };
        let part = json!({"subresource": part, "responseKind": kind(foreign, entry), "verbs": entry["verbs"]});
        let Some(resource) = resources.iter_mut().find(|resource| resource["resource"] == of) else { continue };
        match resource["subresources"].as_array_mut() {
            Some(parts) => parts.push(part),
            None => resource["subresources"] = json!([part]),
        }
    }
    let freshness = if foreign.is_current { "Current" } else { "Stale" };
    json!({"version": foreign.version, "freshness": freshness, "resources": resources})
}

fn resource(foreign: &Foreign, entry: &Value) -> Value {
    let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
    let mut resource = json!({"resource": entry["name"], "responseKind": kind(foreign, entry), "scope": scope,
        "singularResource": entry["singularName"], "verbs": entry["verbs"]});
    for list in ["shortNames", "categories"] {
        if entry[list].is_array() {
            resource[list] = entry[list].clone();
        }
    }
    resource
}

fn kind(foreign: &Foreign, entry: &Value) -> Value {
    let or = |field: &str, own: &str| match entry[field].as_str() {
        Some(other) if !other.is_empty() => other.to_owned(),
        _ => own.to_owned(),
    };
    json!({"group": or("group", &foreign.group), "version": or("version", &foreign.version), "kind": entry["kind"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_resources_becomes_a_version() {
        let foreign = Foreign {
            group: "metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            resources: vec![
                json!({"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                    "verbs": ["get", "list"]}),
                json!({"name": "pods/status", "singularName": "", "namespaced": true, "kind": "Pod", "group": "",
                    "version": "v1", "verbs": ["get"]}),
            ],
            openapi: None,
            swagger: None,
            is_current: false,
        };
        let of = |version: &str, kind: &str| json!({"group": "metrics.k8s.io", "version": version, "kind": kind});
        assert_eq!(
            version(&foreign),
            json!({"version": "v1beta1", "freshness": "Stale", "resources": [{"resource": "pods",
                "responseKind": of("v1beta1", "PodMetrics"), "scope": "Namespaced", "singularResource": "",
                "verbs": ["get", "list"], "subresources": [{"subresource": "status", "responseKind": of("v1", "Pod"),
                    "verbs": ["get"]}]}]})
        );
    }
}
