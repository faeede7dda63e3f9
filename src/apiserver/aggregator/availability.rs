//! Says of every `APIService` whether the server behind it can be used: condition `Available`.

use std::sync::Weak;
use std::time::Duration;

use futures::FutureExt;
use k3s_api::object::{at, label, text};
use serde_json::Value;

use super::{Foreign, discovery};
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
    let before = server.aggregated().all();
    let mut found = Vec::new();
    for entry in server.registry().list(row, "").await?.entries {
        let old = entry.value()?;
        // Those that this server serves itself are always there.
        let Some(service) = at(&old, &["spec", "service"]).filter(|service| service.is_object()) else { continue };
        again = Again::After(CHECK);
        let (status, reason, message) = match check(server, &old, service, &before).await? {
            Ok(foreign) => {
                found.push(foreign);
                ("True", "Passed", "all checks passed".to_owned())
            }
            Err((reason, message)) => {
                found.push(last_known(&before, &old));
                ("False", reason, message)
            }
        };
        let mut new = (*old).clone();
        if set_condition(&mut new, "Available", status, reason, &message) {
            write_status(server.registry(), row, &entry, new).await?;
        }
    }
    server.aggregated().set(found);
    Ok(again)
}

/// What a server served when it was there.
fn last_known(before: &[Foreign], api_service: &Value) -> Foreign {
    let field = |name| text(api_service, &["spec", name]).unwrap_or_default().to_owned();
    let (group, version) = (field("group"), field("version"));
    match before.iter().find(|known| known.group == group && known.version == version) {
        Some(known) => Foreign { is_current: false, ..known.clone() },
        None => Foreign { group, version, resources: Vec::new(), openapi: None, swagger: None, is_current: false },
    }
}

/// Why a server can't be used: reason and message.
type Unavailable = (&'static str, String);

/// What the server serves, or why it can't be used.
async fn check(
    server: &ApiServer,
    api_service: &Value,
    service: &Value,
    before: &[Foreign],
) -> Result<Result<Foreign, Unavailable>, registry::Error> {
    let registry = server.registry();
    let field = |name| text(service, &[name]).unwrap_or_default();
    let (namespace, name) = (field("namespace"), field("name"));
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let Some(found) = registry.get(known::services(), namespace, name).await? else {
        return Ok(Err(("ServiceNotFound", format!("service/{name} in \"{namespace}\" is not present"))));
    };
    let found = found.value()?;
    let ports = at(&found, &["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let Some(found_port) = ports.into_iter().find(|candidate| candidate["port"].as_u64() == Some(port)) else {
        let why = format!("service/{name} in \"{namespace}\" is not listening on port {port}");
        return Ok(Err(("ServicePortError", why)));
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
            return Ok(Err(("EndpointsNotFound", why)));
        }
        if !ready {
            let why = format!(
                "endpoints for service/{name} in \"{namespace}\" have no addresses with port name \"{port_name}\""
            );
            return Ok(Err(("MissingEndpoints", why)));
        }
    }
    let answer = discovery::discover(server, api_service, before).await;
    Ok(answer.map_err(|error| ("FailedDiscoveryCheck", error)))
}
