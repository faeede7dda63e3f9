//! Marks this server's node as part of the control plane.

use std::time::Duration;

use k3s_client::{Change, Informers};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const LABEL: &str = "node-role.kubernetes.io/control-plane";
const RETRY: Duration = Duration::from_secs(1);

/// Gives the node its role label whenever it lacks it, until cancelled.
pub async fn label(informers: Informers, node_name: String, cancel: CancellationToken) {
    let nodes = informers.of_selected::<Node>("", &format!("metadata.name={node_name}"));
    let mut changes = nodes.subscribe();
    let api: Api<Node> = Api::all(informers.client().clone());
    nodes.synced().await;
    loop {
        let lacks = nodes.get(None, &node_name).is_some_and(|node| !node.labels().contains_key(LABEL));
        if lacks {
            let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: "true"}}}));
            if let Err(error) = api.patch(&node_name, &PatchParams::default(), &patch).await {
                tracing::warn!(node = node_name, %error, "cannot label the node; it is tried again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.next() => match change {
                Some(Change::Applied(_) | Change::Deleted(_) | Change::Relisted) => {}
                None => return,
            },
        }
    }
}
