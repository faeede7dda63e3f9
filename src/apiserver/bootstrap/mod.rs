//! What every cluster has from its first moment: namespaces, roles and bindings, flow schemas and priority levels,
//! priority classes, API services, the service range and the `kubernetes` service with its endpoints.
//!
//! They are created through the API like everything else, so they are validated, defaulted and owned by their field
//! managers. `objects.jsonl` holds what does not depend on the configuration, an object per line, as Kubernetes 1.36
//! creates it; it is read only here.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use futures::{TryStreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::BodyExt;
use ipnet::IpNet;
use k3s_api::authentication::UserInfo;
use k3s_api::resource::{self, Resource};
use k3s_api::{object, time};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::authorization::{MASTERS, Rule};
use crate::{ApiServer, Config, flow_control, registry};

/// Why an object that every cluster must have could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot look for what already exists: {0}")]
    Registry(#[from] registry::Error),
    /// A line of `objects.jsonl` is wrong.
    #[error("the built-in objects cannot be read: {0}")]
    Data(String),
    #[error("cannot create {kind} {name}: {message}")]
    Refused { kind: String, name: String, message: String },
}

/// Objects at a time: enough for the datastore to commit them in a few groups.
const AT_A_TIME: usize = 64;

const OBJECTS: &str = include_str!("objects.jsonl");
const MANAGER: &str = "kube-apiserver";
const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Creates what is missing, and brings the `kubernetes` service's endpoints up to date.
///
/// # Errors
/// If the API refuses an object, or the datastore fails.
pub async fn run(server: &ApiServer) -> Result<(), Error> {
    // Roles of kube-system and the service need their namespaces.
    create_missing(server, namespaces()).await?;
    let (mut service_ranges, rest): (Vec<_>, Vec<_>) =
        objects(server.config())?.into_iter().partition(|object| object::kind(object) == "ServiceCIDR");
    // The service's address is taken from the range.
    create_missing(server, std::mem::take(&mut service_ranges)).await?;
    create_missing(server, rest).await?;
    // From the first request on that is not the server's own.
    flow_control::reconcile(server).await?;
    for endpoints in endpoints(server.config()) {
        apply(server, &endpoints, "", MANAGER).await?;
    }
    Ok(())
}

/// All objects but namespaces and endpoints.
///
/// # Errors
/// If the embedded data is damaged.
pub fn objects(config: &Config) -> Result<Vec<Value>, Error> {
    let lines = OBJECTS.lines();
    let mut objects: Vec<Value> =
        lines.map(serde_json::from_str).collect::<Result<_, _>>().map_err(|error| Error::Data(error.to_string()))?;
    objects.push(service_cidr(config));
    objects.extend(kubernetes_service(config));
    objects.extend(extension_authentication(config));
    Ok(objects)
}

/// What a built-in cluster role allows, whatever may have become of it in the cluster. Empty if there is no such role.
pub(crate) fn rules_of(role: &str) -> Vec<Rule> {
    let objects = OBJECTS.lines().filter(|line| line.contains(role)).filter_map(|line| serde_json::from_str(line).ok());
    let mut roles =
        objects.filter(|object: &Value| object::kind(object) == "ClusterRole" && object::name(object) == role);
    roles.next().and_then(|role| Vec::deserialize(&role["rules"]).ok()).unwrap_or_default()
}

fn namespaces() -> Vec<Value> {
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace).into()
}

fn service_cidr(config: &Config) -> Value {
    let cidrs: Vec<_> = config.service_cidrs.iter().map(ToString::to_string).collect();
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs}})
}

/// The service by which pods reach the API; it has the first address of the range.
fn kubernetes_service(config: &Config) -> Option<Value> {
    let address = config.service_cidrs.first().and_then(first_address)?;
    Some(json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.advertise_port}]}}))
}

fn first_address(range: &IpNet) -> Option<IpAddr> {
    range.hosts().next()
}

/// Where the `kubernetes` service leads: to this server.
fn endpoints(config: &Config) -> [Value; 2] {
    let port = json!([{"name": "https", "port": config.advertise_port, "protocol": "TCP"}]);
    let address = config.advertise_address.to_string();
    let family = if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" };
    [
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address}], "ports": port}]}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}], "ports": port}),
    ]
}

/// What aggregated API servers need to trust this one's word about users.
fn extension_authentication(config: &Config) -> Option<Value> {
    let pem = |certificates: &[rustls::pki_types::CertificateDer<'static>]| {
        certificates.iter().map(|der| pem_of(der)).collect::<String>()
    };
    let authentication = &config.authentication;
    let mut data = serde_json::Map::new();
    if !authentication.client_ca.is_empty() {
        data.insert("client-ca-file".into(), pem(&authentication.client_ca).into());
    }
    if !authentication.request_header_ca.is_empty() {
        data.insert("requestheader-client-ca-file".into(), pem(&authentication.request_header_ca).into());
        let names = json!(authentication.request_header_names).to_string();
        data.insert("requestheader-allowed-names".into(), names.into());
        data.insert("requestheader-username-headers".into(), r#"["X-Remote-User"]"#.into());
        data.insert("requestheader-group-headers".into(), r#"["X-Remote-Group"]"#.into());
        data.insert("requestheader-uid-headers".into(), r#"["X-Remote-Uid"]"#.into());
        data.insert("requestheader-extra-headers-prefix".into(), r#"["X-Remote-Extra-"]"#.into());
    }
    (!data.is_empty()).then(|| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}})
    })
}

fn pem_of(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

async fn create_missing(server: &ApiServer, objects: Vec<Value>) -> Result<(), Error> {
    let mut known: HashSet<String> = HashSet::new();
    let mut looked: HashSet<Arc<str>> = HashSet::new();
    let mut missing = Vec::new();
    for object in objects {
        let resource = resource_of(&object)?;
        let prefix = format!("/registry/{}/", resource.storage_prefix);
        if looked.insert(prefix.as_str().into()) {
            let listing = server.registry().cache_of_prefix(&prefix).await?.list("");
            known.extend(listing.entries.iter().map(|entry| format!("{prefix}{}", entry.key())));
        }
        let key = match object::namespace(&object) {
            "" => format!("{prefix}{}", object::name(&object)),
            namespace => format!("{prefix}{namespace}/{}", object::name(&object)),
        };
        if !known.contains(&key) {
            missing.push((resource, object));
        }
    }
    stream::iter(missing.into_iter().map(Ok))
        .try_for_each_concurrent(AT_A_TIME, |(resource, object)| create(server, resource, object))
        .await
}

async fn create(server: &ApiServer, resource: &'static Resource, object: Value) -> Result<(), Error> {
    let flow_control = object::api_version(&object) == FLOW_CONTROL;
    let manager = if flow_control { "api-priority-and-fairness-config-producer-v1" } else { MANAGER };
    let path = format!("{}?fieldManager={manager}", path(resource, &object, None));
    match send(server, Method::POST, path, "application/json", &object).await {
        Ok(()) | Err((409, _)) => {}
        Err((_, message)) => return Err(refused(&object, message)),
    }
    match object::kind(&object) {
        "FlowSchema" => {
            let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            let message = format!(
                "This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" and it exists"
            );
            let status = condition(&object, "Dangling", "False", "Found", &message);
            apply(server, &status, "status", "api-priority-and-fairness-config-consumer-v1").await
        }
        "ServiceCIDR" => {
            let status = condition(&object, "Ready", "True", "", "Kubernetes default Service CIDR is ready");
            apply(server, &status, "status", "kubernetes-service-cidr-controller").await
        }
        _ => Ok(()),
    }
}

/// `object` with nothing but its name and that condition.
pub(crate) fn condition(object: &Value, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = time::format_seconds(jiff::Timestamp::now());
    let mut condition = json!({"type": kind, "status": status, "message": message, "lastTransitionTime": now});
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": object["metadata"]["name"]}, "status": {"conditions": [condition]}})
}

/// Server-side apply.
pub(crate) async fn apply(server: &ApiServer, object: &Value, subresource: &str, manager: &str) -> Result<(), Error> {
    let resource = resource_of(object)?;
    let path = path(resource, object, Some(subresource));
    let path = format!("{path}?fieldManager={manager}&force=true");
    send(server, Method::PATCH, path, "application/apply-patch+yaml", object)
        .await
        .map_err(|(_, message)| refused(object, message))
}

fn resource_of(object: &Value) -> Result<&'static Resource, Error> {
    let (group, version) = object::group_version(object::api_version(object));
    resource::find_kind(group, version, object::kind(object))
        .ok_or_else(|| Error::Data(format!("there is no resource for {}", object::kind(object))))
}

/// The path of the collection (no `subresource`), of the object (an empty one), or of its subresource.
fn path(resource: &Resource, object: &Value, subresource: Option<&str>) -> String {
    let mut path = match &*resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    if resource.namespaced {
        path.push_str(&format!("/namespaces/{}", object::namespace(object)));
    }
    path.push_str(&format!("/{}", resource.plural));
    if let Some(subresource) = subresource {
        path.push_str(&format!("/{}", object::name(object)));
        if !subresource.is_empty() {
            path.push_str(&format!("/{subresource}"));
        }
    }
    path
}

fn refused(object: &Value, message: String) -> Error {
    Error::Refused { kind: object::kind(object).to_owned(), name: object::name(object).to_owned(), message }
}

/// Sends a request as the API server itself. The error is the code and the message of the answer.
async fn send(
    server: &ApiServer,
    method: Method,
    path: String,
    content_type: &str,
    body: &Value,
) -> Result<(), (u16, String)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .extension(UserInfo::new("system:apiserver", &[MASTERS]))
        .body(http_body_util::Full::from(body.to_string()))
        .map_err(|error| (0, error.to_string()))?;
    let Ok(response) = server.clone().oneshot(request).await;
    let code = response.status();
    if code.is_success() {
        return Ok(());
    }
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = status["message"].as_str().map_or_else(|| code.to_string(), str::to_owned);
    Err((code.as_u16(), message))
}
