//! Says of every `APIService` whether the server behind it can be used: condition `Available`.

use std::sync::Weak;
use std::time::Duration;

use futures::FutureExt;
use k3s_api::object::{at, label, text};
use serde_json::Value;

use crate::follow::{Again, follow, set_condition, write_status};
use crate::registry::{self, known};
use crate::{ApiServer, Inner};

/// How often servers that may have changed without a word are asked.
const CHECK: Duration = Duration::from_secs(30);

/// Keeps the condition as long as the server lives.
pub(crate) async fn run(server: Weak<Inner>) {
    let resources = [known::api_services(), known::services(), known::endpoint_slices()];
    follow(server, &resources, |server| reconcile(server).boxed()).await;
}

/// Brings the condition of all of them up to date.
pub(crate) async fn reconcile(server: &ApiServer) -> Result<Again, registry::Error> {
    let row = known::api_services();
    let mut again = Again::No;
    for entry in server.registry().list(row, "").await?.entries {
        let old = entry.value()?;
        // Those that this server serves itself are always there.
        let Some(service) = at(&old, &["spec", "service"]).filter(|service| service.is_object()) else { continue };
        again = Again::After(CHECK);
        let (status, reason, message) = match unavailable(server, &old, service).await? {
            None => ("True", "Passed", "all checks passed".to_owned()),
            Some((reason, message)) => ("False", reason, message),
        };
        let mut new = (*old).clone();
        if set_condition(&mut new, "Available", status, reason, &message) {
            write_status(server.registry(), row, &entry, new).await?;
        }
    }
    Ok(again)
}

/// Why the server can't be used, if that is so.
async fn unavailable(
    server: &ApiServer,
    api_service: &Value,
    service: &Value,
) -> Result<Option<(&'static str, String)>, registry::Error> {
    let registry = server.registry();
    let field = |name| text(service, &[name]).unwrap_or_default();
    let (namespace, name) = (field("namespace"), field("name"));
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let Some(found) = registry.get(known::services(), namespace, name).await? else {
        return Ok(Some(("ServiceNotFound", format!("service/{name} in \"{namespace}\" is not present"))));
    };
    let found = found.value()?;
    let ports = at(&found, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let Some(found_port) = ports.into_iter().find(|candidate| candidate["port"].as_u64() == Some(port)) else {
        let why = format!("service/{name} in \"{namespace}\" is not listening on port {port}");
        return Ok(Some(("ServicePortError", why)));
    };
    if text(&found, &["spec", "type"]) != Some("ExternalName") {
        let port_name = text(found_port, &["name"]).unwrap_or_default();
        let slices = registry.list(known::endpoint_slices(), namespace).await?.entries;
        let (mut any, mut ready) = (false, false);
        for slice in slices {
            let slice = slice.value()?;
            if label(&slice, "kubernetes.io/service-name") != Some(name) {
                continue;
            }
            any = true;
            let mut ports = slice["ports"].as_array().into_iter().flatten();
            let has_port = ports.any(|port| port["name"].as_str().unwrap_or_default() == port_name);
            let mut endpoints = slice["endpoints"].as_array().into_iter().flatten();
            ready |= has_port && endpoints.any(|endpoint| endpoint["conditions"]["ready"] != false);
        }
        if !any {
            let why = format!("cannot find endpointslices for service/{name} in \"{namespace}\"");
            return Ok(Some(("EndpointsNotFound", why)));
        }
        if !ready {
            let why = format!(
                "endpoints for service/{name} in \"{namespace}\" have no addresses with port name \"{port_name}\""
            );
            return Ok(Some(("MissingEndpoints", why)));
        }
    }
    let answer = super::discover(server, api_service).await;
    Ok(answer.err().map(|error| ("FailedDiscoveryCheck", error)))
}
