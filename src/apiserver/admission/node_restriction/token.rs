//! A kubelet gets tokens for the pods that run on its node, and for the audiences that these pods ask for.

use k3s_api::object::{self, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::Request;
use crate::admission::Operation;
use crate::authorization;
use crate::registry::known;

pub(super) async fn admit(request: &Request<'_>) -> Result<(), Status> {
    if request.at.subresource != "token" || request.at.operation != Operation::Create {
        return Ok(());
    }
    let (namespace, registry) = (request.at.namespace, request.at.registry);
    let bound = &request.object["spec"]["boundObjectRef"];
    let field = |name| text(bound, &[name]).unwrap_or_default();
    let (name, uid) = (field("name"), field("uid"));
    if (field("apiVersion"), field("kind")) != ("v1", "Pod") || name.is_empty() {
        return request.refuse("node requested token not bound to a pod");
    }
    if uid.is_empty() {
        return request.refuse("node requested token with a pod binding without a uid");
    }
    let pod = registry.get(known::pods(), namespace, name).await?;
    let Some(pod) = pod else { return Err(Status::not_found("", "pods", name)) };
    let pod = pod.value()?;
    if object::uid(&pod) != uid {
        return request.refuse(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        ));
    }
    if text(&pod, &["spec", "nodeName"]) != Some(request.node) {
        return request.refuse("node requested token bound to a pod scheduled on a different node");
    }
    check_audience(request, &pod).await
}

/// The audience must be one that the pod's volumes ask for, or one that the node may ask for by a role.
async fn check_audience(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    let audiences = request.object["spec"]["audiences"].as_array().map_or(&[][..], Vec::as_slice);
    let audience = match audiences {
        // The server's own.
        [] => "",
        [audience] => audience.as_str().unwrap_or_default(),
        _ => return request.refuse("node may only request 0 or 1 audiences"),
    };
    if asked_for(request, pod, audience).await? {
        return Ok(());
    }
    let asked = authorization::Attributes {
        verb: "request-serviceaccounts-token-audience",
        is_resource: true,
        version: "v1",
        resource: audience,
        namespace: request.at.namespace,
        name: request.at.name,
        ..authorization::Attributes::default()
    };
    let user = request.at.user;
    if request.at.authorizer.authorize(request.at.registry, user, asked).await?.is_allowed() {
        return Ok(());
    }
    request.refuse(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        user.name
    ))
}

/// Whether a volume of the pod asks for a token for that audience, or the driver of one does.
async fn asked_for(request: &Request<'_>, pod: &Value, audience: &str) -> Result<bool, Status> {
    let registry = request.at.registry;
    for volume in items(&pod["spec"]["volumes"]) {
        let is_it = |token: &Value| text(token, &["audience"]).unwrap_or_default() == audience;
        if items(&volume["projected"]["sources"]).filter_map(|source| source.get("serviceAccountToken")).any(is_it) {
            return Ok(true);
        }
        let claim = match text(volume, &["persistentVolumeClaim", "claimName"]) {
            Some(claim) => Some(claim.to_owned()),
            None if volume.get("ephemeral").is_some() => {
                Some(format!("{}-{}", object::name(pod), text(volume, &["name"]).unwrap_or_default()))
            }
            None => None,
        };
        let driver = match claim {
            Some(claim) => driver_of(request, &claim).await?,
            None => text(volume, &["csi", "driver"]).map(str::to_owned),
        };
        if let Some(driver) = driver
            && let Some(driver) = registry.get(known::csi_drivers(), "", &driver).await?
            && items(&driver.value()?["spec"]["tokenRequests"]).any(is_it)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The CSI driver of the volume that the claim has.
async fn driver_of(request: &Request<'_>, claim: &str) -> Result<Option<String>, Status> {
    let registry = request.at.registry;
    let Some(claim) = registry.get(known::persistent_volume_claims(), request.at.namespace, claim).await? else {
        return Ok(None);
    };
    let claim = claim.value()?;
    let Some(volume) = text(&claim, &["spec", "volumeName"]) else { return Ok(None) };
    let Some(volume) = registry.get(known::persistent_volumes(), "", volume).await? else { return Ok(None) };
    Ok(text(&*volume.value()?, &["spec", "csi", "driver"]).map(str::to_owned))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
