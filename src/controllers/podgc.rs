//! Removes pods nobody will ever remove: those bound to a node that is gone, and deleted pods that were never bound.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::{Context, Error, is_status};

/// How often pods are looked at, as in kube-controller-manager.
const PERIOD: Duration = Duration::from_secs(20);

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let (nodes, pods) = (informers.of::<Node>(), informers.of::<Pod>());
    nodes.synced().await;
    pods.synced().await;
    // A node has to be missing twice in a row: one that registers again right away keeps its pods.
    let mut suspects: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let mut missing = Vec::new();
        for pod in pods.list() {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let orphaned = match &node {
                Some(node) => nodes.get(None, node).is_none(),
                None => pod.metadata.deletion_timestamp.is_some(),
            };
            let uid = pod.uid().unwrap_or_default();
            if !orphaned {
                continue;
            }
            if suspects.contains(&uid) {
                if let Err(error) = remove(&context.client, &pod).await {
                    tracing::warn!(pod = pod.name_any(), %error, "cannot remove an orphaned pod; it is tried again");
                }
            } else {
                missing.push(uid);
            }
        }
        suspects = missing;
    }
}

async fn remove(client: &Client, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    let result = api.delete(&pod.name_any(), &params).await;
    if is_status(&result, 404) || is_status(&result, 409) {
        return Ok(());
    }
    result?;
    tracing::info!(pod = pod.name_any(), "removed a pod of a node that is gone");
    Ok(())
}
