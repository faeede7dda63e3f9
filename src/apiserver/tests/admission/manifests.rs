//! What people write is taken: an object of every kind with nearly every field, as YAML, strictly.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_api::resource;
use serde_json::Value;

use crate::cluster::Cluster;

const MANIFESTS: [&str; 3] = [
    include_str!("../data/workloads.yaml"),
    include_str!("../data/network.yaml"),
    include_str!("../data/cluster.yaml"),
];

/// Where an object like this one is created.
fn path(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let resource =
        resource::builtin().iter().find(|resource| resource.api_version() == version && resource.kind == kind);
    let resource = resource.unwrap_or_else(|| panic!("no {kind} in {version}"));
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("a");
    let namespace = if resource.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
    format!("{root}/{version}{namespace}/{}?dryRun=All&fieldValidation=Strict", resource.plural)
}

#[tokio::test]
async fn objects_with_nearly_every_field_are_taken() {
    let cluster = Cluster::start().await;
    let documents = MANIFESTS.iter().flat_map(|text| text.split("\n---\n"));
    for document in documents {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .uri(path(&object))
            .header("content-type", "application/yaml")
            .extension(UserInfo::new("admin", &["system:masters"]))
            .body(Full::new(Bytes::from(document.to_owned())))
            .unwrap();
        let response = cluster.respond(request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, 201, "{} {}: {}", object["kind"], object["metadata"], String::from_utf8_lossy(&body));
    }
}
