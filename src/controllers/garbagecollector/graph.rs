//! The graph of owners and dependents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};

/// What is to be known of an object.
#[derive(Debug, Clone)]
pub struct Node {
    pub resource: Arc<ApiResource>,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    pub version: Option<String>,
    pub owners: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

impl Node {
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }
}

/// Objects by uid, with the way back from an owner to its dependents.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }

    /// Takes in an object as it is now; returns the uids to look at.
    pub fn apply(&mut self, resource: &Arc<ApiResource>, object: &PartialObjectMeta<DynamicObject>) -> Vec<String> {
        let Some(uid) = object.uid() else { return Vec::new() };
        let node = Node {
            resource: resource.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            version: object.resource_version(),
            owners: object.owner_references().to_vec(),
            finalizers: object.finalizers().to_vec(),
            deleting: object.metadata.deletion_timestamp.is_some(),
        };
        let mut affected = self.unlink(&uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        affected.extend(node.owners.iter().map(|owner| owner.uid.clone()));
        self.nodes.insert(uid.clone(), node);
        // Owners matter only if they wait for this one.
        affected.retain(|uid| self.nodes.get(uid).is_some_and(|owner| owner.deleting));
        affected.push(uid);
        affected
    }

    /// Takes out an object that is gone; returns the uids to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut affected = self.unlink(uid);
        affected.retain(|uid| self.nodes.get(uid).is_some_and(|owner| owner.deleting));
        self.nodes.remove(uid);
        affected.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        affected
    }

    /// Removes a node from the sets of its owners' dependents; returns the owners.
    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let owners: Vec<String> = self
            .nodes
            .get(uid)
            .map(|node| node.owners.iter().map(|owner| owner.uid.clone()).collect())
            .unwrap_or_default();
        for owner in &owners {
            if let Some(set) = self.dependents.get_mut(owner) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        owners
    }

    /// The uids of a kind's objects.
    pub fn uids_of(&self, resource: &ApiResource) -> HashSet<String> {
        let of_kind = |node: &Node| node.resource.group == resource.group && node.resource.plural == resource.plural;
        self.nodes.iter().filter(|(_, node)| of_kind(node)).map(|(uid, _)| uid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(uid: &str, owners: &[&str], deleting: bool) -> PartialObjectMeta<DynamicObject> {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid}))
            .collect();
        let mut meta = json!({"name": uid, "namespace": "n", "uid": uid, "ownerReferences": owners});
        if deleting {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta}),
        )
        .unwrap()
    }

    fn sorted(mut uids: Vec<String>) -> Vec<String> {
        uids.sort();
        uids
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes_and_owners_when_they_wait() {
        let mut graph = Graph::default();
        let resource = Arc::new(ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&()));
        assert_eq!(graph.apply(&resource, &object("child", &["owner"], false)), ["child"]);
        assert_eq!(graph.apply(&resource, &object("owner", &[], false)), ["owner"]);
        assert_eq!(graph.dependents("owner").len(), 1);
        graph.apply(&resource, &object("owner", &[], true));
        assert_eq!(sorted(graph.apply(&resource, &object("child", &[], false))), ["child", "owner"]);
        assert!(graph.dependents("owner").is_empty());
        graph.apply(&resource, &object("child", &["owner"], false));
        assert_eq!(graph.remove("owner"), ["child"]);
        assert!(graph.remove("child").is_empty());
    }
}
