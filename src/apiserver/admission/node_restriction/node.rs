//! A node's labels and taints steer what runs on it: a kubelet must not draw work to itself by them.

use std::collections::BTreeSet;

use k3s_api::object::{self, at};
use k3s_api::status::Status;
use serde_json::{Map, Value};

use super::Request;
use crate::admission::Operation;

/// The labels of Kubernetes' own that a kubelet sets.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

pub(super) fn admit(request: &Request<'_>) -> Result<(), Status> {
    let (node, name) = (request.node, request.name());
    if name != node {
        return request.refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let labels = |value: &Value| object::labels(value).cloned().unwrap_or_default();
    match request.at.operation {
        Operation::Create => {
            if source(request.object).is_some() {
                return request
                    .refuse(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            let forbidden = forbidden(&labels(request.object), &Map::new());
            if !forbidden.is_empty() {
                let why = format!("node {node:?} is not allowed to set the following labels: {forbidden}");
                return request.refuse(why);
            }
        }
        Operation::Update => {
            let Some(old) = request.old else { return Ok(()) };
            if source(request.object).is_some_and(|new| Some(new) != source(old)) {
                let why = format!("node {node:?} is not allowed to update configSource to a new non-nil configSource");
                return request.refuse(why);
            }
            let taints = |node| at(node, &["spec", "taints"]).and_then(Value::as_array).filter(|list| !list.is_empty());
            if taints(old) != taints(request.object) {
                return request.refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            let forbidden = forbidden(&labels(request.object), &labels(old));
            if !forbidden.is_empty() {
                return request.refuse(format!("is not allowed to modify labels: {forbidden}"));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

fn source(node: &Value) -> Option<&Value> {
    at(node, &["spec", "configSource"]).filter(|source| !source.is_null())
}

/// The keys that differ and are not a kubelet's to set, listed.
fn forbidden(new: &Map<String, Value>, old: &Map<String, Value>) -> String {
    let changed = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key));
    let keys: BTreeSet<&str> = changed.map(String::as_str).filter(|key| !may_set(key)).collect();
    keys.into_iter().collect::<Vec<_>>().join(", ")
}

/// Whether a kubelet may set that label: whatever is not Kubernetes' own, and of that what it knows.
fn may_set(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| domain.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    !(within("kubernetes.io") || within("k8s.io"))
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
        || OWN_LABELS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_sets_its_own_labels_and_those_nobody_has_reserved() {
        for (key, expected) in [
            ("zone", true),
            ("example.com/zone", true),
            ("notkubernetes.io/zone", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("kubelet.kubernetes.io/any", true),
            ("x.node.kubernetes.io/any", true),
            ("kubernetes.io/any", false),
            ("k8s.io/any", false),
            ("x.k8s.io/any", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/any", false),
            ("x.node-restriction.kubernetes.io/any", false),
        ] {
            assert_eq!(may_set(key), expected, "{key}");
        }
    }
}
