//! What this server serves: `/api`, `/apis` and what is below them, one document per version or all in one
//! ("aggregated", `APIGroupDiscoveryList`), and `/version`. Made from the rows of resources when asked for, as JSON or
//! protobuf; `/version` is JSON.

mod aggregated;
mod foreign;

use base64::Engine;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use k3s_api::protobuf;
use k3s_api::resource::{Resource, Verbs};
use k3s_api::status::Status;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregator::Foreign;
use crate::negotiate::{Asked, Format, PROTOBUF, negotiate};
use crate::registry::Row;
use crate::request::Query;
use crate::{ApiServer, Body, encode, response};

/// The version this server says it is: Kubernetes' with k3s's suffix.
pub const GIT_VERSION: &str = "v1.36.2+k3s1";

/// Answers a GET of `/api`, `/apis`, what is below them that is no resource, and `/version`; `None` for other paths.
pub(crate) fn handle(server: &ApiServer, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rows = server.registry().resources();
    let foreign = server.aggregated().all();
    Some(match parts.as_slice() {
        ["version"] => response::json(StatusCode::OK, version().to_string().into_bytes()),
        ["api"] => match aggregated::wanted(headers) {
            Some(wanted) => with_etag(headers, wanted, &aggregated::list(&rows, &[], wanted.version, |g| g.is_empty())),
            None => document(headers, &legacy_versions(server)),
        },
        ["apis"] => match aggregated::wanted(headers) {
            Some(wanted) => {
                with_etag(headers, wanted, &aggregated::list(&rows, &foreign, wanted.version, |g| !g.is_empty()))
            }
            None => document(headers, &groups(&rows, &foreign)),
        },
        ["api", version] => resources(headers, &rows, "", version),
        ["apis", group] => match all_versions(&rows, &foreign, group).as_slice() {
            [] => response::page_not_found(),
            versions => {
                let mut document = group_of(group, versions);
                document["kind"] = json!("APIGroup");
                document["apiVersion"] = json!("v1");
                self::document(headers, &document)
            }
        },
        ["apis", group, version] => resources(headers, &rows, group, version),
        _ => return None,
    })
}

/// `/version`.
fn version() -> Value {
    json!({"major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64"})
}

fn legacy_versions(server: &ApiServer) -> Value {
    let address = std::net::SocketAddr::new(server.config().advertise_address, server.config().advertise_port);
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}]})
}

fn groups(rows: &[Row], foreign: &[Foreign]) -> Value {
    let mut names = group_names(rows, |group| !group.is_empty());
    for version in foreign {
        if !names.contains(&version.group.as_str()) {
            names.push(&version.group);
        }
    }
    let groups: Vec<Value> =
        names.into_iter().map(|group| group_of(group, &all_versions(rows, foreign, group))).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The groups in the order of discovery.
fn group_names(rows: &[Row], wanted: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if wanted(&row.group) && !names.contains(&&*row.group) {
            names.push(&row.group);
        }
    }
    names
}

/// The versions of a group, the preferred one first.
fn group_versions<'a>(rows: &'a [Row], group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.group == group) {
        if !versions.contains(&&*row.version) {
            versions.push(&row.version);
        }
    }
    versions
}

/// As [`group_versions`], with those that other servers serve behind this one's own.
fn all_versions<'a>(rows: &'a [Row], foreign: &'a [Foreign], group: &str) -> Vec<&'a str> {
    let mut versions = group_versions(rows, group);
    for version in foreign.iter().filter(|version| version.group == group) {
        if !versions.contains(&version.version.as_str()) {
            versions.push(&version.version);
        }
    }
    versions
}

fn group_of(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

fn resources(headers: &HeaderMap, rows: &[Row], group: &str, version: &str) -> Response<Body> {
    let of_version: Vec<&Row> = rows.iter().filter(|row| row.group == group && row.version == version).collect();
    if of_version.is_empty() {
        let known = group.is_empty() || rows.iter().any(|row| row.group == group);
        return if known { response::status(&Status::no_such_resource()) } else { response::page_not_found() };
    }
    let mut resources: Vec<Value> = of_version.iter().flat_map(|row| entries(row)).collect();
    // Of custom resources the status comes before the scale.
    let owner = |name: &Value| name.as_str().unwrap_or_default().split('/').next().unwrap_or_default().to_owned();
    match of_version.iter().any(|row| row.custom().is_some()) {
        true => resources.sort_by_key(|entry| owner(&entry["name"])),
        false => resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str())),
    }
    // Only the core group's list leaves the version of its own kind out.
    let list = match group {
        "" => json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources}),
        _ => json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
            "resources": resources}),
    };
    document(headers, &list)
}

/// A resource and its subresources, as `APIResource`s.
fn entries(row: &Resource) -> Vec<Value> {
    let mut entry = json!({"name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
        "kind": row.kind, "verbs": row.verb_names()});
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    // What is stored can be watched; reviews and the like are not stored.
    if row.verbs.contains(Verbs::WATCH) {
        entry["storageVersionHash"] = json!(storage_version_hash(row));
    }
    let mut entries = vec![entry];
    for subresource in row.subresources.iter() {
        let mut entry = json!({"name": format!("{}/{}", row.plural, subresource.name), "singularName": "",
            "namespaced": row.namespaced, "kind": subresource.kind,
            "verbs": subresource.verbs.names().collect::<Vec<_>>()});
        if (&subresource.group, &subresource.version) != (&row.group, &row.version) {
            entry["group"] = json!(subresource.group);
            entry["version"] = json!(subresource.version);
        }
        entries.push(entry);
    }
    entries
}

/// Opaque to clients: changes when the stored version does.
fn storage_version_hash(row: &Resource) -> String {
    let version = match &*row.plural {
        // Kubernetes 1.36 still says its oldest version of these.
        "customresourcedefinitions" | "mutatingadmissionpolicies" | "mutatingadmissionpolicybindings" => "v1beta1",
        _ => &*row.storage_version,
    };
    let stored = format!("{}/{version}/{}", row.storage_group, row.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(stored)[..8])
}

/// A document in the form that the client likes best; JSON if it likes none that there is.
fn document(headers: &HeaderMap, document: &Value) -> Response<Body> {
    let accept = negotiate(headers, &Query::default(), Asked::default());
    if !accept.is_ok_and(|accept| accept.format == Format::Protobuf) {
        return response::json(StatusCode::OK, document.to_string().into_bytes());
    }
    match protobuf::encode(document) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
            response
        }
        Err(error) => response::status(&encode::not_writable(error)),
    }
}

/// A document that the client may have already: 304 if it says so by `If-None-Match`.
fn with_etag(headers: &HeaderMap, wanted: aggregated::Wanted, document: &Value) -> Response<Body> {
    let body = if wanted.protobuf { protobuf::encode(document) } else { Ok(document.to_string().into_bytes()) };
    let body = match body {
        Ok(body) => body,
        Err(error) => return response::status(&encode::not_writable(error)),
    };
    let etag = format!("\"{}\"", crate::authentication::hex(&Sha256::digest(&body)).to_uppercase());
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = match known {
        true => Response::new(Body::Empty),
        false => Response::new(Body::from(body)),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(wanted.media_type()));
    headers.insert(VARY, HeaderValue::from_name(ACCEPT));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    response
}
