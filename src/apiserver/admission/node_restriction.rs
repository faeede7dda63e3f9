//! A kubelet changes its own node, its own lease and the pods bound to it, and nothing else of these.

use async_trait::async_trait;
use k3s_api::object::{self, annotation, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(node) = node_name(at) else { return Ok(()) };
        match (at.resource.group.as_ref(), at.resource.plural.as_ref()) {
            ("", "nodes") => admit_node(at, node, object, old),
            ("", "pods") if at.subresource == "eviction" => {
                let pod = at.registry.get(at.resource, at.namespace, at.name).await?;
                let pod = pod.map(|pod| pod.value()).transpose()?;
                match pod.filter(|pod| bound_to(pod) != node) {
                    None => Ok(()),
                    Some(_) => {
                        let why = format!("node {node:?} can only evict pods with spec.nodeName set to itself");
                        Err(at.forbidden(object, why))
                    }
                }
            }
            ("", "pods") => admit_pod(at, node, object, old),
            ("coordination.k8s.io", "leases") => {
                let name = [at.name, object::name(object)].into_iter().find(|name| !name.is_empty());
                if at.namespace == "kube-node-lease" && name == Some(node) {
                    return Ok(());
                }
                let why = format!("can only access node lease with the same name as the requesting node {node:?}");
                Err(at.forbidden(object, why))
            }
            _ => Ok(()),
        }
    }
}

/// The node that the user is, if it is one.
fn node_name<'a>(at: &Attributes<'a>) -> Option<&'a str> {
    let name = at.user.name.strip_prefix("system:node:")?;
    at.user.groups.iter().any(|group| group == "system:nodes").then_some(name)
}

fn admit_node(at: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let name = [at.name, object::name(object)].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    if name != node {
        return Err(at.forbidden(object, format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let labels = |value: Option<&Value>| value.and_then(object::labels).cloned().unwrap_or_default();
    let (new_labels, old_labels) = (labels(Some(object)), labels(old));
    if at.operation == Operation::Delete {
        return Ok(());
    }
    let changed = new_labels.iter().filter(|(key, value)| old_labels.get(*key) != Some(value)).map(|(key, _)| key);
    let removed = old_labels.keys().filter(|key| !new_labels.contains_key(*key));
    let isolated: Vec<&str> = changed
        .chain(removed)
        .map(String::as_str)
        .filter(|key| key.split('/').next().is_some_and(|prefix| prefix.ends_with("node-restriction.kubernetes.io")))
        .collect();
    if !isolated.is_empty() {
        let why = format!("is not allowed to modify labels: {}", isolated.join(", "));
        return Err(at.forbidden(object, why));
    }
    if let Some(old) = old
        && object::at(old, &["spec", "taints"]) != object::at(object, &["spec", "taints"])
    {
        return Err(at.forbidden(object, format!("node {node:?} is not allowed to modify taints")));
    }
    Ok(())
}

fn bound_to(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"]).unwrap_or_default()
}

fn admit_pod(at: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    match (at.subresource, at.operation) {
        ("", Operation::Create) => {
            if annotation(object, "kubernetes.io/config.mirror").is_none() {
                let why = format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                );
                return Err(at.forbidden(object, why));
            }
            if bound_to(object) != node {
                let why = format!("node {node:?} can only create pods with spec.nodeName set to itself");
                return Err(at.forbidden(object, why));
            }
        }
        ("" | "status", Operation::Update | Operation::Delete) => {
            if let Some(old) = old
                && bound_to(old) != node
            {
                let what = if at.operation == Operation::Delete { "delete pods" } else { "update pod status for pods" };
                let why = format!("node {node:?} can only {what} with spec.nodeName set to itself");
                return Err(at.forbidden(object, why));
            }
        }
        _ => {}
    }
    Ok(())
}
