//! All of discovery in one document: `apidiscovery.k8s.io` `APIGroupDiscoveryList`.

use http::HeaderMap;
use http::header::ACCEPT;
use k3s_api::resource::Resource;
use serde_json::{Value, json};

use super::{foreign, group_names, group_versions};
use crate::aggregator::Foreign;
use crate::negotiate::PROTOBUF;
use crate::registry::Row;

/// The versions of the document; they differ in their name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V2Beta1,
}

/// What the client wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub version: Version,
    /// Else JSON.
    pub protobuf: bool,
}

impl Wanted {
    pub fn media_type(self) -> &'static str {
        match (self.version, self.protobuf) {
            (Version::V2, false) => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            (Version::V2Beta1, false) => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            (Version::V2, true) => {
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (Version::V2Beta1, true) => {
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

impl Version {
    fn api_version(self) -> &'static str {
        match self {
            Version::V2 => "apidiscovery.k8s.io/v2",
            Version::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }
}

/// What the client wants, if it would rather have this document than the plain ones.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for accepted in accepted.flat_map(|value| value.split(',')) {
        let mut parts = accepted.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let protobuf = media_type == PROTOBUF;
        if !protobuf && !matches!(media_type, "application/json" | "*/*" | "application/*") {
            continue;
        }
        let parameters: Vec<&str> = parts.collect();
        if !parameters.contains(&"as=APIGroupDiscoveryList") {
            return None;
        }
        if !parameters.contains(&"g=apidiscovery.k8s.io") {
            continue;
        }
        if parameters.contains(&"v=v2") {
            return Some(Wanted { version: Version::V2, protobuf });
        }
        if parameters.contains(&"v=v2beta1") {
            return Some(Wanted { version: Version::V2Beta1, protobuf });
        }
    }
    None
}

/// The document with the groups that `wanted` says.
pub(super) fn list(rows: &[Row], others: &[Foreign], version: Version, wanted: impl Fn(&str) -> bool) -> Value {
    let mut items: Vec<Value> = group_names(rows, wanted)
        .into_iter()
        .map(|group| {
            let versions: Vec<Value> = group_versions(rows, group)
                .into_iter()
                .map(|version| {
                    let mut of_version: Vec<&Row> =
                        rows.iter().filter(|row| row.group == group && row.version == version).collect();
                    of_version.sort_by(|a, b| a.plural.cmp(&b.plural));
                    let resources: Vec<Value> = of_version.iter().map(|row| resource(row)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    for other in others {
        let versions = items.iter_mut().find(|item| item["metadata"]["name"] == other.group);
        match versions.and_then(|item| item["versions"].as_array_mut()) {
            Some(versions) if versions.iter().any(|known| known["version"] == other.version) => {}
            Some(versions) => versions.push(foreign::version(other)),
            None => items.push(json!({"metadata": {"name": other.group}, "versions": [foreign::version(other)]})),
        }
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": version.api_version(), "metadata": {}, "items": items})
}

fn resource(row: &Resource) -> Value {
    let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = json!({"resource": row.plural, "responseKind": {"group": "", "version": "", "kind": row.kind},
        "scope": scope, "singularResource": row.singular, "verbs": row.verb_names()});
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let mut subresources: Vec<Value> = row.subresources.iter().map(|part| {
            // Empty means: the same as the resource's.
            let (group, version) = match (&part.group, &part.version) == (&row.group, &row.version) {
                true => ("", ""),
                false => (&*part.group, &*part.version),
            };
            json!({"subresource": part.name, "responseKind": {"group": group, "version": version, "kind": part.kind},
                "verbs": part.verbs.names().collect::<Vec<_>>()})
        }).collect();
        subresources.sort_by(|a, b| a["subresource"].as_str().cmp(&b["subresource"].as_str()));
        entry["subresources"] = subresources.into();
    }
    entry
}
