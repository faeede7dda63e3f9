//! The Node authorizer: what a kubelet may do, which is read what the pods on its node use, and write what it owns
//! (<https://kubernetes.io/docs/reference/access-authn-authz/node/>).

use k3s_api::authentication::UserInfo;
use k3s_api::object;
use serde_json::Value;

use super::{Attributes, Decision};
use crate::registry::{self, Registry};

/// The node that a user is: in group `system:nodes`, named `system:node:NAME`.
pub(super) fn name(user: &UserInfo) -> Option<&str> {
    let node = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(node)
}

/// What is allowed to any node: verbs, group, resources (with `/subresource`). Kubernetes' `system:node` role.
const RULES: &[(&[&str], &str, &[&str])] = &[
    (&["create"], "authentication.k8s.io", &["tokenreviews"]),
    (&["create"], "authorization.k8s.io", &["subjectaccessreviews", "localsubjectaccessreviews"]),
    (&["get", "list", "watch"], "", &["services"]),
    (&["create"], "", &["nodes"]),
    (&["update", "patch"], "", &["nodes", "nodes/status"]),
    (&["create", "update", "patch"], "", &["events"]),
    (&["create", "update", "patch"], "events.k8s.io", &["events"]),
    (&["get", "list", "watch"], "", &["pods"]),
    (&["create", "delete"], "", &["pods"]),
    (&["update", "patch"], "", &["pods/status"]),
    (&["create"], "", &["pods/eviction"]),
    (&["get", "list", "watch"], "storage.k8s.io", &["csidrivers"]),
    (&["get", "list", "watch"], "node.k8s.io", &["runtimeclasses"]),
    (&["get", "list", "watch"], "certificates.k8s.io", &["clustertrustbundles"]),
    (&["create", "get", "list", "watch"], "certificates.k8s.io", &["certificatesigningrequests"]),
    (
        &["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"],
        "resource.k8s.io",
        &["resourceslices"],
    ),
    (&["get"], "", &["persistentvolumes"]),
    (&["update", "patch"], "", &["persistentvolumeclaims/status"]),
    (&["get"], "storage.k8s.io", &["volumeattachments"]),
    // Flannel and the service proxy run in the agent under the node's own name, as in k3s.
    (&["get", "list", "watch"], "discovery.k8s.io", &["endpointslices"]),
];

fn refused(reason: String) -> Result<Decision, registry::Error> {
    Ok(Decision::none(reason))
}

/// Whether the kubelet of `node` may do what is asked.
pub(super) async fn authorize(
    node: &str,
    asked: &Attributes<'_>,
    registry: &Registry,
) -> Result<Decision, registry::Error> {
    if !asked.is_resource {
        return refused(String::new());
    }
    let read = matches!(asked.verb, "get" | "list" | "watch");
    let own = |allowed: bool, what: &str| {
        if allowed { Some(()) } else { None }.ok_or_else(|| format!("can only access {what} of its own node"))
    };
    let verdict = match (asked.group, asked.resource, asked.subresource) {
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") if read => related(node, asked, registry).await?,
        ("", "serviceaccounts", "token") if asked.verb == "create" => related(node, asked, registry).await?,
        ("resource.k8s.io", "resourceclaims", "") if asked.verb == "get" => related(node, asked, registry).await?,
        ("", "nodes", "") if read => own(asked.name == node, "objects"),
        ("storage.k8s.io", "csinodes", "") if matches!(asked.verb, "get" | "update" | "patch" | "delete") => {
            own(asked.name == node, "CSINode objects")
        }
        ("storage.k8s.io", "csinodes", "") if asked.verb == "create" => Ok(()),
        ("coordination.k8s.io", "leases", "") => {
            let named = asked.name == node || (asked.verb == "create" && asked.name.is_empty());
            let verb = matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete");
            own(asked.namespace == "kube-node-lease" && named && verb, "leases")
        }
        _ => by_rule(asked),
    };
    match verdict {
        Ok(()) => Ok(Decision::allow("")),
        Err(reason) => refused(reason),
    }
}

fn by_rule(asked: &Attributes<'_>) -> Result<(), String> {
    let resource = match asked.subresource {
        "" => asked.resource.to_owned(),
        subresource => format!("{}/{subresource}", asked.resource),
    };
    let found = RULES.iter().any(|(verbs, group, resources)| {
        verbs.contains(&asked.verb) && *group == asked.group && resources.contains(&resource.as_str())
    });
    if found { Ok(()) } else { Err(String::new()) }
}

/// Whether a pod on the node uses the object. Anything but one object by its name is refused.
async fn related(
    node: &str,
    asked: &Attributes<'_>,
    registry: &Registry,
) -> Result<Result<(), String>, registry::Error> {
    if asked.name.is_empty() || asked.namespace.is_empty() {
        return Ok(Err(format!("No Object name found: a node can only {} an individual object", asked.verb)));
    }
    let pods = registry.cache_of_prefix("/registry/pods/").await?;
    for entry in pods.list(asked.namespace).entries {
        // Most pods are of other nodes or have nothing to do with it; they are not worth parsing.
        if !contains(entry.bytes(), node) || !contains(entry.bytes(), asked.name) {
            continue;
        }
        let pod = entry.value()?;
        if object::text(&pod, &["spec", "nodeName"]) == Some(node) && uses(&pod, asked.resource, asked.name) {
            return Ok(Ok(()));
        }
    }
    Ok(Err(format!("no relationship found between node '{node}' and this object")))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whether the pod's specification refers to that object of its namespace.
fn uses(pod: &Value, resource: &str, name: &str) -> bool {
    match resource {
        "serviceaccounts" => object::text(pod, &["spec", "serviceAccountName"]) == Some(name),
        "secrets" => refers(
            &pod["spec"],
            name,
            &["secretName"],
            &["secretRef", "secretKeyRef", "secret", "imagePullSecrets", "nodePublishSecretRef", "nodeExpandSecretRef"],
        ),
        "configmaps" => refers(&pod["spec"], name, &[], &["configMap", "configMapRef", "configMapKeyRef"]),
        // A generic ephemeral volume's claim is named POD-VOLUME.
        "persistentvolumeclaims" => {
            refers(&pod["spec"], name, &["claimName"], &[])
                || pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| {
                    volume.get("ephemeral").is_some()
                        && volume["name"].as_str().is_some_and(|v| format!("{}-{v}", object::name(pod)) == name)
                })
        }
        "resourceclaims" => {
            let statuses = pod["status"]["resourceClaimStatuses"].as_array().into_iter().flatten();
            refers(&pod["spec"], name, &["resourceClaimName"], &[])
                || statuses.into_iter().any(|status| status["resourceClaimName"] == name)
        }
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_its_specification_names() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "env": [{"valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "from"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "vol"}}, {"name": "e", "ephemeral": {}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "pcm"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
        for (resource, name, expected) in [
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
            ("serviceaccounts", "sa", true),
            ("serviceaccounts", "default", false),
        ] {
            assert_eq!(uses(&pod, resource, name), expected, "{resource} {name}");
        }
    }

    #[test]
    fn only_members_of_the_nodes_group_are_nodes() {
        let node = UserInfo::new("system:node:n1", &["system:nodes"]);
        assert_eq!(name(&node), Some("n1"));
        assert_eq!(name(&UserInfo::new("system:node:n1", &[])), None);
        assert_eq!(name(&UserInfo::new("n1", &["system:nodes"])), None);
    }
}
