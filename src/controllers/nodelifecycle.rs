//! Notices nodes that stopped reporting, taints them and marks their pods; evicts pods that do not tolerate it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k3s_client::Informer;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Context, Error, each_change, is_status};

/// How long a node may be silent, how long a new one may take, and how often nodes are looked at: the defaults of
/// kube-controller-manager.
const GRACE: Duration = Duration::from_secs(50);
const PERIOD: Duration = Duration::from_secs(5);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions that become taints with effect NoSchedule (TaintNodesByCondition).
const PRESSURES: &[(&str, &str)] = &[
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// When a node's lease was last seen to change, by this process's own clock: the clocks of nodes do not matter.
#[derive(Default)]
struct Heartbeats(HashMap<String, (Option<String>, Instant)>);

impl Heartbeats {
    fn silence(&mut self, node: &str, lease: Option<&Lease>) -> Duration {
        let version = lease.and_then(ResourceExt::resource_version);
        let entry = self.0.entry(node.to_owned()).or_insert_with(|| (version.clone(), Instant::now()));
        if entry.0 != version {
            *entry = (version, Instant::now());
        }
        entry.1.elapsed()
    }
}

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let nodes = informers.of::<Node>();
    let leases = informers.of_selected::<Lease>("", "metadata.namespace=kube-node-lease");
    let pods = informers.of::<Pod>();
    let changed = tokio::sync::Notify::new();
    let look = async {
        nodes.synced().await;
        leases.synced().await;
        pods.synced().await;
        let mut heartbeats = Heartbeats::default();
        loop {
            for node in nodes.list() {
                let silence = heartbeats
                    .silence(&node.name_any(), leases.get(Some("kube-node-lease"), &node.name_any()).as_deref());
                if let Err(error) = monitor(&context.client, &node, silence, &pods).await {
                    tracing::warn!(node = node.name_any(), %error, "cannot update a node; it is tried again");
                }
            }
            let known: Vec<_> = nodes.list().iter().map(|node| node.name_any()).collect();
            heartbeats.0.retain(|name, _| known.contains(name));
            tokio::select! {
                () = cancel.cancelled() => return,
                () = changed.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    tokio::join!(look, each_change(nodes.clone(), cancel.clone(), |_| changed.notify_one()));
}

async fn monitor(client: &Client, node: &Node, silence: Duration, pods: &Informer<Pod>) -> Result<(), Error> {
    let api: Api<Node> = Api::all(client.clone());
    let ready = condition(node, "Ready").map_or("Unknown", |condition| condition.status.as_str());
    if silence > GRACE && ready != "Unknown" {
        tracing::warn!(node = node.name_any(), "node stopped posting its status");
        let now = Timestamp::now();
        let unknown = |kind: &str| {
            json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": now})
        };
        let conditions = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].map(unknown);
        let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
        api.patch_status(&node.name_any(), &PatchParams::default(), &patch).await?;
        return Ok(());
    }
    retaint(&api, node, ready).await?;
    if ready != "True" {
        unready_pods(client, node, pods).await?;
    }
    evict(client, node, pods).await
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether this controller owns a taint: it sets and removes these, and leaves the others alone.
fn is_ours(taint: &Taint) -> bool {
    let pressure = PRESSURES.iter().any(|(_, key)| taint.key == *key);
    pressure && taint.effect == "NoSchedule"
        || matches!(taint.key.as_str(), NOT_READY | UNREACHABLE)
        || taint.key == "node.kubernetes.io/unschedulable" && taint.effect == "NoSchedule"
}

fn wanted_taints(node: &Node, ready: &str) -> Vec<Taint> {
    let taint = |key: &str, effect: &str| Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() };
    let mut wanted = Vec::new();
    if let Some(key) = [("False", NOT_READY), ("Unknown", UNREACHABLE)].iter().find(|(status, _)| *status == ready) {
        wanted.extend([taint(key.1, "NoSchedule"), taint(key.1, "NoExecute")]);
    }
    for (kind, key) in PRESSURES {
        if condition(node, kind).is_some_and(|condition| condition.status == "True") {
            wanted.push(taint(key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push(taint("node.kubernetes.io/unschedulable", "NoSchedule"));
    }
    wanted
}

async fn retaint(api: &Api<Node>, node: &Node, ready: &str) -> Result<(), Error> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    let wanted = wanted_taints(node, ready);
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|want| same(want, taint)))
        .cloned()
        .collect();
    for mut taint in wanted {
        if !taints.iter().any(|have| same(have, &taint)) {
            taint.time_added = (taint.effect == "NoExecute").then(|| Time(Timestamp::now()));
            taints.push(taint);
        }
    }
    if taints == current {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
    let result = api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
    if is_status(&result, 409) {
        return Ok(());
    }
    result?;
    Ok(())
}

fn pods_of(node: &Node, pods: &Informer<Pod>) -> Vec<Arc<Pod>> {
    let name = node.name_any();
    let on_it = |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name);
    pods.list().into_iter().filter(on_it).collect()
}

/// Pods of a node that is not ready are not ready, so that services send nothing there.
async fn unready_pods(client: &Client, node: &Node, pods: &Informer<Pod>) -> Result<(), Error> {
    for pod in pods_of(node, pods) {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        if !conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True") {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": Timestamp::now()});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let result = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
        if !is_status(&result, 404) {
            result?;
        }
    }
    Ok(())
}

/// Deletes pods that do not tolerate the node's NoExecute taints, or no longer.
async fn evict(client: &Client, node: &Node, pods: &Informer<Pod>) -> Result<(), Error> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let evicting: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
    if evicting.is_empty() {
        return Ok(());
    }
    for pod in pods_of(node, pods) {
        if pod.metadata.deletion_timestamp.is_some() || !evicting.iter().any(|taint| is_due(&pod, taint)) {
            continue;
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let result = api.delete(&pod.name_any(), &DeleteParams::default()).await;
        if !is_status(&result, 404) {
            result?;
            tracing::info!(
                pod = pod.name_any(),
                node = node.name_any(),
                "evicted a pod that does not tolerate a taint"
            );
        }
    }
    Ok(())
}

/// Whether the time a pod tolerates a taint has run out.
fn is_due(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let tolerating = tolerations.iter().filter(|toleration| {
        let effect = toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let same_value = exists || value == taint.value.as_deref().unwrap_or_default();
        effect && (key == taint.key && same_value || key.is_empty() && exists)
    });
    let mut shortest: Option<i64> = None;
    let mut tolerated = false;
    for toleration in tolerating {
        tolerated = true;
        if let Some(seconds) = toleration.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |least| least.min(seconds)));
        }
    }
    if !tolerated {
        return true;
    }
    let since = taint.time_added.as_ref().map_or_else(Timestamp::now, |time| time.0);
    shortest.is_some_and(|seconds| Timestamp::now().duration_since(since).as_secs() >= seconds.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    fn node(ready: &str, unschedulable: bool) -> Node {
        from_value(json!({"spec": {"unschedulable": unschedulable},
            "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "DiskPressure", "status": "True"}]}}))
        .unwrap()
    }

    #[test]
    fn taints_follow_conditions() {
        let keys = |node: &Node, ready| -> Vec<String> {
            wanted_taints(node, ready).iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
        };
        assert_eq!(keys(&node("True", false), "True"), ["node.kubernetes.io/disk-pressure:NoSchedule"]);
        let unknown = keys(&node("Unknown", true), "Unknown");
        assert!(unknown.contains(&"node.kubernetes.io/unreachable:NoExecute".to_owned()));
        assert!(unknown.contains(&"node.kubernetes.io/unschedulable:NoSchedule".to_owned()));
    }

    #[test]
    fn a_pod_goes_when_its_toleration_ends() {
        let pod = |tolerations: serde_json::Value| -> Pod {
            from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
        };
        let taint = |seconds_ago: i64| Taint {
            key: NOT_READY.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).unwrap())),
            ..Taint::default()
        };
        assert!(is_due(&pod(json!([])), &taint(0)));
        let five = json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert!(!is_due(&pod(five.clone()), &taint(10)));
        assert!(is_due(&pod(five), &taint(301)));
        assert!(!is_due(&pod(json!([{"operator": "Exists"}])), &taint(100_000)));
    }
}
