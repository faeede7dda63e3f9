//! Gives every node its part of the cluster network (`spec.podCIDR`).

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;
use k3s_client::Informer;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::queue::Queue;
use crate::{Context, Error, each_change, is_status};

/// Prefix lengths of a node's part, as kube-controller-manager has them.
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<String> = Queue::default();
    let nodes = informers.of::<Node>();
    let cluster_cidr = context.config.cluster_cidr;
    let client = context.client.clone();
    let adder = queue.clone();
    tokio::join!(
        each_change(nodes.clone(), cancel.clone(), |node| adder.add(node.name_any())),
        // One at a time: two nodes must not be given the same part.
        queue
            .clone()
            .run("nodeipam", 1, cancel.clone(), |name| { assign(client.clone(), cluster_cidr, nodes.clone(), name) }),
    );
}

async fn assign(client: Client, cluster_cidr: IpNet, nodes: Informer<Node>, name: String) -> Result<(), Error> {
    let has_part = |node: &Node| node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
    if nodes.get(None, &name).is_none_or(|node| has_part(&node)) {
        return Ok(());
    }
    // The cache may not show the part given a moment ago: the decision needs the nodes as they are.
    let api: Api<Node> = Api::all(client);
    let current = api.list(&kube::api::ListParams::default()).await?.items;
    let Some(node) = current.iter().find(|node| node.name_any() == name && !has_part(node)) else { return Ok(()) };
    let taken: HashSet<IpNet> =
        current.iter().filter_map(|node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()).collect();
    let free = free_part(cluster_cidr, &taken)
        .ok_or_else(|| Error::Invalid(format!("no part of {} is left for node {name}", cluster_cidr)))?;
    let patch = json!({
        "metadata": {"resourceVersion": node.resource_version()},
        "spec": {"podCIDR": free.to_string(), "podCIDRs": [free.to_string()]},
    });
    let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    // Changed meanwhile: that change brings the key back.
    if is_status(&patched, 409) {
        return Ok(());
    }
    patched?;
    tracing::info!(node = name, pod_cidr = %free, "node has its pod network");
    Ok(())
}

fn free_part(cluster: IpNet, taken: &HashSet<IpNet>) -> Option<IpNet> {
    let prefix = match cluster {
        IpNet::V4(_) => NODE_PREFIX_V4,
        IpNet::V6(_) => NODE_PREFIX_V6,
    };
    cluster.subnets(prefix.max(cluster.prefix_len())).ok()?.find(|part| !taken.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_part_is_taken_and_none_when_all_are() {
        let cluster: IpNet = "10.42.0.0/23".parse().unwrap();
        let first: IpNet = "10.42.0.0/24".parse().unwrap();
        let second: IpNet = "10.42.1.0/24".parse().unwrap();
        assert_eq!(free_part(cluster, &HashSet::new()), Some(first));
        assert_eq!(free_part(cluster, &HashSet::from([first])), Some(second));
        assert_eq!(free_part(cluster, &HashSet::from([first, second])), None);
    }
}
