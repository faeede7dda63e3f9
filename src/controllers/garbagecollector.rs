//! Deletes what lost its owners, and carries out foreground and orphaning deletions.
//!
//! A graph of all objects that can be deleted, by uid, is kept from metadata watches; an object is looked at when it,
//! one of its owners or one of its dependents changes. Source: <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>.

mod graph;
mod monitor;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::{Context, Error, is_status};
use graph::{Graph, Node};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let queue: Queue<String> = Queue::default();
    let graph = Arc::new(Mutex::new(Graph::default()));
    let kinds = Arc::new(monitor::Kinds::default());
    let client = context.client.clone();
    let collector = Arc::new(Collector { client: client.clone(), graph: graph.clone(), kinds: kinds.clone() });
    tokio::join!(monitor::run(client, graph, queue.clone(), kinds.clone(), cancel.clone()), async {
        // An owner that is not in the graph yet would pass for one that is gone.
        tokio::select! {
            () = cancel.cancelled() => return,
            () = kinds.synced() => {}
        }
        queue.run("garbagecollector", 4, cancel.clone(), |uid| collector.clone().process(uid)).await;
    });
}

struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    kinds: Arc<monitor::Kinds>,
}

/// What an owner reference points to now.
#[derive(PartialEq, Eq)]
enum Owner {
    Solid,
    /// Being deleted in the foreground: it waits for its dependents.
    Waiting,
    Gone,
}

impl Collector {
    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }
    }

    async fn process(self: Arc<Self>, uid: String) -> Result<(), Error> {
        let Some(node) = self.graph.lock().get(&uid).cloned() else { return Ok(()) };
        if node.deleting {
            if node.has_finalizer(ORPHAN) {
                return self.orphan_dependents(&uid, &node).await;
            }
            if node.has_finalizer(FOREGROUND) {
                return self.delete_dependents(&uid, &node).await;
            }
            return Ok(());
        }
        if node.owners.is_empty() {
            return Ok(());
        }
        self.judge(&uid, &node).await
    }

    /// Deletes an object whose owners are all gone; removes references to owners that are gone from others.
    async fn judge(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let mut solid = 0;
        let mut waiting = false;
        let mut stale = Vec::new();
        for reference in &node.owners {
            match self.owner(reference, node).await? {
                Owner::Solid => solid += 1,
                Owner::Waiting => {
                    waiting = true;
                    stale.push(reference.uid.clone());
                }
                Owner::Gone => stale.push(reference.uid.clone()),
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        if solid > 0 {
            return self.remove_references(node, &stale).await;
        }
        let has_dependents = !self.graph.lock().dependents(uid).is_empty();
        let policy =
            if waiting && has_dependents { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        let deleted = self.api(&node.resource, &node.namespace).delete(&node.name, &params).await;
        if is_status(&deleted, 404) || is_status(&deleted, 409) {
            return Ok(());
        }
        deleted?;
        tracing::debug!(kind = node.resource.kind, namespace = node.namespace, name = node.name, "collected");
        Ok(())
    }

    async fn owner(&self, reference: &OwnerReference, node: &Node) -> Result<Owner, Error> {
        if let Some(owner) = self.graph.lock().get(&reference.uid) {
            let waiting = owner.deleting && owner.has_finalizer(FOREGROUND);
            return Ok(if waiting && reference.block_owner_deletion == Some(true) {
                Owner::Waiting
            } else {
                Owner::Solid
            });
        }
        // The graph may be behind: only the API server knows that an object is gone.
        let Some((resource, namespaced)) = self.kinds.find(&reference.api_version, &reference.kind) else {
            // A kind nobody serves (any more) is not proof that the owner is gone.
            return Ok(Owner::Solid);
        };
        let namespace = if namespaced { node.namespace.as_str() } else { "" };
        if namespaced && namespace.is_empty() {
            tracing::warn!(name = node.name, owner = reference.name, "a cluster-scoped object has a namespaced owner");
            return Ok(Owner::Solid);
        }
        let found = self.api(&resource, namespace).get_metadata_opt(&reference.name).await?;
        Ok(match found {
            Some(owner) if owner.uid().as_deref() == Some(&reference.uid) => Owner::Solid,
            _ => Owner::Gone,
        })
    }

    async fn remove_references(&self, node: &Node, uids: &[String]) -> Result<(), Error> {
        let kept: Vec<_> = node.owners.iter().filter(|owner| !uids.contains(&owner.uid)).collect();
        let patch = json!({"metadata": {"resourceVersion": node.version, "ownerReferences": kept}});
        self.patch(node, patch).await
    }

    async fn remove_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), Error> {
        let kept: Vec<_> = node.finalizers.iter().filter(|one| *one != finalizer).collect();
        self.patch(node, json!({"metadata": {"resourceVersion": node.version, "finalizers": kept}})).await
    }

    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<(), Error> {
        let api = self.api(&node.resource, &node.namespace);
        let patched = api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        // Gone, or newer than the graph: the change on its way brings it back.
        if is_status(&patched, 404) || is_status(&patched, 409) {
            return Ok(());
        }
        patched?;
        Ok(())
    }

    async fn orphan_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        for (_, dependent) in dependents {
            self.remove_references(&dependent, &[uid.to_owned()]).await?;
        }
        self.remove_finalizer(node, ORPHAN).await
    }

    async fn delete_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        let blocks = |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion == Some(true);
        let blocking: Vec<_> = dependents.into_iter().filter(|(_, it)| it.owners.iter().any(blocks)).collect();
        if blocking.is_empty() {
            return self.remove_finalizer(node, FOREGROUND).await;
        }
        for (uid, dependent) in blocking.into_iter().filter(|(_, dependent)| !dependent.deleting) {
            self.judge(&uid, &dependent).await?;
        }
        Ok(())
    }
}
