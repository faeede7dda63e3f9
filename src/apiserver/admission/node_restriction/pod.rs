//! A kubelet shows the pods that it runs of its own as mirror pods, says how its pods are, and ends them.

use k3s_api::object::{self, annotation, at, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::Request;
use crate::admission::Operation;
use crate::registry::known;

pub(super) async fn admit(request: &Request<'_>) -> Result<(), Status> {
    let node = request.node;
    let operation = request.at.operation;
    match (request.at.subresource, operation) {
        ("", Operation::Create) => create(request).await,
        ("", Operation::Delete) => match request.old {
            Some(old) if bound_to(old) != node => {
                request.refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
            }
            _ => Ok(()),
        },
        ("", _) => request.refuse(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            operation.name()
        )),
        ("status", Operation::Update) => status(request),
        ("eviction", Operation::Create) => {
            let pod = request.at.registry.get(known::pods(), request.at.namespace, request.name()).await?;
            let Some(pod) = pod else { return Err(Status::not_found("", "pods", request.name())) };
            if bound_to(&*pod.value()?) != node {
                return request.refuse(format!("node {node} can only evict pods with spec.nodeName set to itself"));
            }
            Ok(())
        }
        ("status" | "eviction", _) => request.refuse(format!("unexpected operation {:?}", operation.name())),
        (subresource, _) => request
            .refuse(format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed")),
    }
}

fn bound_to(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"]).unwrap_or_default()
}

async fn create(request: &Request<'_>) -> Result<(), Status> {
    let (node, pod) = (request.node, request.object);
    if annotation(pod, "kubernetes.io/config.mirror").is_none() {
        return request.refuse(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if bound_to(pod) != node {
        return request.refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    owner(request).await?;
    // What a pod uses, its kubelet may read.
    if let Some(resource) = reference(pod) {
        return request.refuse(format!("node {node:?} can not create pods that reference {resource}"));
    }
    Ok(())
}

/// The pod must be its node's, so that it goes with it.
async fn owner(request: &Request<'_>) -> Result<(), Status> {
    let node = request.node;
    let owners = at(request.object, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    let owner = match owners.map_or(&[][..], Vec::as_slice) {
        [owner] => owner,
        [] => {
            return request.refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        _ => {
            let why = format!("node {node:?} can only create pods with a single owner reference set to itself");
            return request.refuse(why);
        }
    };
    let field = |name| text(owner, &[name]).unwrap_or_default();
    if (field("apiVersion"), field("kind"), field("name")) != ("v1", "Node", node) {
        return request.refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        let why = format!("node {node:?} can only create pods with a controller owner reference set to itself");
        return request.refuse(why);
    }
    if owner["blockOwnerDeletion"] == true {
        return request.refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let known = request.at.registry.get(known::nodes(), "", node).await?;
    let Some(known) = known else { return Err(Status::not_found("", "nodes", node)) };
    let known = known.value()?;
    let (named, uid) = (field("uid"), object::uid(&known));
    if named != uid {
        return request.refuse(format!("node {node} UID mismatch: expected {named} got {uid}"));
    }
    Ok(())
}

/// The resource of an object of the API that the pod refers to.
fn reference(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if text(spec, &["serviceAccountName"]).is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let volumes = || spec["volumes"].as_array().into_iter().flatten();
    let projected = |source: &str| {
        volumes()
            .flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten())
            .any(|projected| projected.get(source).is_some())
    };
    let containers = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten());
    let environment = |from: &str, of: &str| {
        containers.clone().any(|container| {
            let list = |field: &str| container[field].as_array().into_iter().flatten();
            list("envFrom").any(|source| source.get(from).is_some())
                || list("env").any(|variable| variable["valueFrom"].get(of).is_some())
        })
    };
    let has = |kind: &str| volumes().any(|volume| volume.get(kind).is_some());
    // These name their secret as `secretRef`, and need none.
    let secret_of = |kind: &str, field: &str| volumes().any(|volume| volume[kind].get(field).is_some());
    let pulls = spec["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    let secrets = pulls
        || environment("secretRef", "secretKeyRef")
        || has("secret")
        || projected("secret")
        || has("azureFile")
        || ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"]
            .iter()
            .any(|kind| secret_of(kind, "secretRef"))
        || secret_of("csi", "nodePublishSecretRef");
    let cases = [
        (secrets, "secrets"),
        (environment("configMapRef", "configMapKeyRef") || has("configMap") || projected("configMap"), "configmaps"),
        (spec["resourceClaims"].as_array().is_some_and(|list| !list.is_empty()), "resourceclaims"),
        (has("csi"), "csidrivers (via CSI volumes)"),
        (has("glusterfs"), "endpoints (via glusterFS volumes)"),
        (has("persistentVolumeClaim"), "persistentvolumeclaims"),
        (has("ephemeral"), "persistentvolumeclaims (via ephemeral volumes)"),
        (projected("serviceAccountToken"), "serviceaccounts (via projected volumes)"),
        (projected("clusterTrustBundle"), "clustertrustbundles"),
        (projected("podCertificate"), "podcertificates"),
    ];
    cases.into_iter().find(|(refers, _)| *refers).map(|(_, resource)| resource)
}

fn status(request: &Request<'_>) -> Result<(), Status> {
    let (node, Some(old)) = (request.node, request.old) else { return Ok(()) };
    if bound_to(old) != node {
        let why = format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return request.refuse(why);
    }
    let labels = |pod| object::labels(pod).filter(|labels| !labels.is_empty());
    if labels(old) != labels(request.object) {
        return request.refuse(format!("node {node:?} cannot update labels through pod status"));
    }
    let list = |pod, field: &str| {
        at(pod, &["status", field]).filter(|value| !value.is_null() && value.as_array().is_none_or(|l| !l.is_empty()))
    };
    if list(old, "resourceClaimStatuses") != list(request.object, "resourceClaimStatuses") {
        return request.refuse(format!("node {node:?} cannot update resource claim statues"));
    }
    if list(old, "extendedResourceClaimStatus") != list(request.object, "extendedResourceClaimStatus") {
        return request.refuse(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_reference_is_found() {
        let with_volume = |volume: Value| json!({"spec": {"containers": [{"name": "c"}], "volumes": [volume]}});
        let projected = |source: Value| with_volume(json!({"name": "v", "projected": {"sources": [source]}}));
        for (pod, expected) in [
            (with_volume(json!({"name": "v", "hostPath": {"path": "/"}})), None),
            (projected(json!({"downwardAPI": {}})), None),
            (json!({"spec": {"serviceAccountName": "a"}}), Some("serviceaccounts")),
            (json!({"spec": {"imagePullSecrets": [{"name": "a"}]}}), Some("secrets")),
            (json!({"spec": {"containers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}}), Some("secrets")),
            (json!({"spec": {"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {}}}]}]}}), Some("secrets")),
            (json!({"spec": {"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {}}}]}]}}), Some("configmaps")),
            (projected(json!({"secret": {"name": "a"}})), Some("secrets")),
            (projected(json!({"configMap": {"name": "a"}})), Some("configmaps")),
            (projected(json!({"serviceAccountToken": {"path": "a"}})), Some("serviceaccounts (via projected volumes)")),
            (projected(json!({"clusterTrustBundle": {"path": "a"}})), Some("clustertrustbundles")),
            (json!({"spec": {"resourceClaims": [{"name": "a"}]}}), Some("resourceclaims")),
            (with_volume(json!({"name": "v", "persistentVolumeClaim": {}})), Some("persistentvolumeclaims")),
            (with_volume(json!({"name": "v", "csi": {"driver": "d"}})), Some("csidrivers (via CSI volumes)")),
        ] {
            assert_eq!(reference(&pod), expected, "{pod}");
        }
    }
}
