//! What has to do with a node: the pods on it, and through them what they use.
//!
//! ```text
//! node ← pod ← secret, config map, service account, claim, resource claim
//!                                                    ↑
//!                                    volume ─────────┘ ← secret
//! node ← volume attachment, resource slice
//! ```
//!
//! Kubernetes keeps a graph of it. Here it is looked up when it is asked for, which is when a kubelet starts a pod: most
//! objects are told to be none of the node's by a look at their bytes.

use k3s_api::object::{self, annotation, text};
use k3s_api::resource::Resource;
use serde_json::Value;

use crate::authorization::Attributes;
use crate::registry::{self, Registry, known};

/// Whether the object that is asked for has to do with the node.
///
/// # Errors
/// If what lies between them cannot be read.
pub(super) async fn related(node: &str, asked: &Attributes<'_>, registry: &Registry) -> Result<bool, registry::Error> {
    let (namespace, name) = (asked.namespace, asked.name);
    match asked.resource {
        "pods" => names_node(known::pods(), node, &registry::key(namespace, name), registry).await,
        "volumeattachments" => names_node(known::volume_attachments(), node, name, registry).await,
        "resourceslices" => names_node(known::resource_slices(), node, name, registry).await,
        "persistentvolumes" => {
            let volumes = registry.cache(known::persistent_volumes()).await?;
            match volumes.get(name) {
                Some(volume) => claimed(node, &*volume.value()?, registry).await,
                None => Ok(false),
            }
        }
        "secrets" => Ok(used(node, "secrets", namespace, name, registry).await?
            || of_a_volume(node, namespace, name, registry).await?),
        resource => used(node, resource, namespace, name, registry).await,
    }
}

/// Whether the object's `spec.nodeName` is the node.
async fn names_node(resource: &Resource, node: &str, key: &str, registry: &Registry) -> Result<bool, registry::Error> {
    let Some(entry) = registry.cache(resource).await?.get(key) else { return Ok(false) };
    Ok(text(&*entry.value()?, &["spec", "nodeName"]) == Some(node))
}

/// Whether a pod on the node uses the object of its namespace.
async fn used(
    node: &str,
    resource: &str,
    namespace: &str,
    name: &str,
    registry: &Registry,
) -> Result<bool, registry::Error> {
    if namespace.is_empty() {
        return Ok(false);
    }
    // The claim of an ephemeral volume is named after the pod and the volume.
    let whole_name = resource != "persistentvolumeclaims";
    for entry in registry.cache(known::pods()).await?.list(namespace).entries {
        // Most pods are of other nodes or have nothing to do with it; they are not worth parsing.
        if !contains(entry.bytes(), node) || (whole_name && !contains(entry.bytes(), name)) {
            continue;
        }
        let pod = entry.value()?;
        if text(&pod, &["spec", "nodeName"]) == Some(node) && uses(&pod, resource, name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a pod on the node uses the claim that has the volume.
async fn claimed(node: &str, volume: &Value, registry: &Registry) -> Result<bool, registry::Error> {
    let claim = |field| text(volume, &["spec", "claimRef", field]).unwrap_or_default();
    used(node, "persistentvolumeclaims", claim("namespace"), claim("name"), registry).await
}

/// Whether a volume needs the secret whose claim a pod on the node uses.
async fn of_a_volume(node: &str, namespace: &str, name: &str, registry: &Registry) -> Result<bool, registry::Error> {
    for entry in registry.cache(known::persistent_volumes()).await?.list("").entries {
        if !contains(entry.bytes(), name) {
            continue;
        }
        let volume = entry.value()?;
        if needs(&volume["spec"], namespace, name) && claimed(node, &volume, registry).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whether the pod refers to that object of its namespace.
fn uses(pod: &Value, resource: &str, name: &str) -> bool {
    // A kubelet makes mirror pods itself: they must not give it anything.
    if annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return false;
    }
    match resource {
        "serviceaccounts" => text(pod, &["spec", "serviceAccountName"]) == Some(name),
        "secrets" => refers(
            &pod["spec"],
            name,
            &["secretName"],
            &["secretRef", "secretKeyRef", "secret", "imagePullSecrets", "nodePublishSecretRef"],
        ),
        "configmaps" => refers(&pod["spec"], name, &[], &["configMap", "configMapRef", "configMapKeyRef"]),
        "persistentvolumeclaims" => items(&pod["spec"]["volumes"]).any(|volume| {
            volume["persistentVolumeClaim"]["claimName"] == name
                || (volume.get("ephemeral").is_some()
                    && volume["name"].as_str().is_some_and(|own| format!("{}-{own}", object::name(pod)) == name))
        }),
        "resourceclaims" => {
            let made = |claim: &Value| {
                let statuses = &pod["status"]["resourceClaimStatuses"];
                items(statuses).any(|status| status["name"] == claim["name"] && status["resourceClaimName"] == name)
            };
            items(&pod["spec"]["resourceClaims"]).any(|claim| match claim.get("resourceClaimName") {
                Some(named) => named == name,
                None => made(claim),
            }) || pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"] == name
        }
        _ => false,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether anywhere in `value` one of `fields` says `name`, or one of the objects `references` is named so.
fn refers(value: &Value, name: &str, fields: &[&str], references: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            (fields.contains(&key.as_str()) && inner == name)
                || (references.contains(&key.as_str()) && named(inner, name))
                || refers(inner, name, fields, references)
        }),
        Value::Array(items) => items.iter().any(|item| refers(item, name, fields, references)),
        _ => false,
    }
}

fn named(reference: &Value, name: &str) -> bool {
    match reference {
        Value::Array(items) => items.iter().any(|item| named(item, name)),
        reference => reference["name"] == name,
    }
}

/// Whether a kubelet needs that secret to use the volume. What only controllers need is not for it.
fn needs(volume: &Value, namespace: &str, name: &str) -> bool {
    /// Where kinds of volumes name their secrets, most of them under `secretRef`.
    const REFERENCES: &[(&str, &[&str])] = &[
        ("cephfs", &["secretRef"]),
        ("cinder", &["secretRef"]),
        ("flexVolume", &["secretRef"]),
        ("rbd", &["secretRef"]),
        ("scaleIO", &["secretRef"]),
        ("iscsi", &["secretRef"]),
        ("storageos", &["secretRef"]),
        ("csi", &["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"]),
    ];
    let claim_namespace = volume["claimRef"]["namespace"].as_str().unwrap_or_default();
    let is_it = |secret: &Value, name_field: &str, namespace_field: &str| {
        let given = secret[namespace_field].as_str().filter(|given| !given.is_empty());
        secret[name_field] == name && given.unwrap_or(claim_namespace) == namespace
    };
    REFERENCES
        .iter()
        .any(|(kind, fields)| fields.iter().any(|field| is_it(&volume[*kind][*field], "name", "namespace")))
        || is_it(&volume["azureFile"], "secretName", "secretNamespace")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_its_specification_names() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "resourceClaims": [{"name": "own", "resourceClaimName": "given"}, {"name": "made", "resourceClaimTemplateName": "t"}],
            "containers": [{"name": "c", "env": [{"valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "vol"}}, {"name": "e", "ephemeral": {}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "pcm"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-1"},
                {"name": "foreign", "resourceClaimName": "foreign-1"}]}});
        let cases = [
            ("secrets", "pull", true),
            ("secrets", "env", true),
            ("secrets", "vol", true),
            ("secrets", "proj", true),
            ("secrets", "from", false),
            ("secrets", "c", false),
            ("configmaps", "from", true),
            ("configmaps", "pcm", true),
            ("configmaps", "proj", false),
            ("persistentvolumeclaims", "data", true),
            ("persistentvolumeclaims", "p-e", true),
            ("persistentvolumeclaims", "p-d", false),
            ("resourceclaims", "given", true),
            ("resourceclaims", "p-made-1", true),
            ("resourceclaims", "foreign-1", false),
            ("serviceaccounts", "sa", true),
            ("serviceaccounts", "default", false),
        ];
        for (resource, name, expected) in cases {
            assert_eq!(uses(&pod, resource, name), expected, "{resource} {name}");
        }
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        for (resource, name, _) in cases {
            assert!(!uses(&pod, resource, name), "a mirror pod gives {resource} {name}");
        }
    }

    #[test]
    fn a_kubelet_needs_the_secrets_of_volumes_that_are_not_for_controllers() {
        let volume = json!({"claimRef": {"namespace": "a", "name": "c"}, "csi": {
            "nodePublishSecretRef": {"name": "publish", "namespace": "x"}, "controllerExpandSecretRef": {"name": "expand", "namespace": "x"}}});
        assert!(needs(&volume, "x", "publish"));
        assert!(!needs(&volume, "a", "publish"));
        assert!(!needs(&volume, "x", "expand"));
        let volume = json!({"claimRef": {"namespace": "a", "name": "c"}, "azureFile": {"secretName": "s"}});
        assert!(needs(&volume, "a", "s"));
        assert!(!needs(&volume, "b", "s"));
    }
}
