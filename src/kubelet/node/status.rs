//! The node's status: what it has, and whether pods can run on it.

use std::time::Duration;

use jiff::Timestamp;
use k3s_cri::RuntimeStatus;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::Instant;

use super::Retry;
use crate::context::Context;
use crate::events::Severity;

/// How often the status is looked at once the node is ready.
const REFRESH: Duration = Duration::from_secs(10);
/// How often it is looked at before: a runtime or network that becomes ready must show at once.
const REFRESH_NOT_READY: Duration = Duration::from_millis(100);
/// How often an unchanged status is reported.
const REPORT_UNCHANGED: Duration = Duration::from_secs(300);
/// How many images the status lists, the largest first.
const MAX_IMAGES: usize = 50;
/// Available memory and process ids below which the node is under pressure.
const MIN_MEMORY_BYTES: u64 = 100 << 20;
const MIN_DISK_PERCENT: u64 = 5;

/// What is looked at each time.
pub(super) struct Observation {
    not_ready: Option<String>,
    limits_unavailable: Option<String>,
    memory_pressure: bool,
    disk_pressure: bool,
    images: Vec<ContainerImage>,
    /// What RuntimeClasses may name, the default without a name first.
    handlers: Vec<NodeRuntimeHandler>,
}

/// Keeps the status up to date for ever.
pub(super) async fn run(ctx: &Context) {
    let api: Api<Node> = Api::all(ctx.client.clone());
    let mut retry = Retry::new();
    let mut reported: Option<(NodeStatus, Instant)> = None;
    loop {
        let observation = observe(ctx).await;
        let pause = if observation.not_ready.is_none() { REFRESH } else { REFRESH_NOT_READY };
        let fresh = of(ctx, reported.as_ref().map(|(status, _)| status), &observation);
        let unchanged = reported.as_ref().is_some_and(|(status, at)| {
            at.elapsed() < REPORT_UNCHANGED && without_heartbeat(status) == without_heartbeat(&fresh)
        });
        if unchanged {
            tokio::time::sleep(pause).await;
            continue;
        }
        match report(ctx, &api, &observation).await {
            Ok(status) => {
                reported = Some((status, Instant::now()));
                retry = Retry::new();
                tokio::time::sleep(pause).await;
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                // Somebody deleted the node; it registers again as long as the kubelet runs.
                super::register::run(ctx).await;
            }
            Err(error) => {
                tracing::warn!(%error, "node status not updated; it is tried again");
                retry.pause().await;
            }
        }
    }
}

/// Writes the status over what the API has, and returns what was written.
async fn report(ctx: &Context, api: &Api<Node>, observation: &Observation) -> Result<NodeStatus, kube::Error> {
    let name = &ctx.config.node_name;
    let current = api.get(name).await?;
    let fresh = of(ctx, current.status.as_ref(), observation);
    let was_ready = current.status.as_ref().and_then(ready_status);
    let mut patch = serde_json::json!({ "status": fresh });
    let old_addresses = current.status.and_then(|status| status.addresses).unwrap_or_default();
    if !old_addresses.is_empty() && Some(&old_addresses) != fresh.addresses.as_ref() {
        // The list merges by type; an address that went away must go.
        let mut addresses = vec![serde_json::json!({ "$patch": "replace" })];
        addresses.extend(fresh.addresses.iter().flatten().map(|address| serde_json::json!(address)));
        patch["status"]["addresses"] = addresses.into();
    }
    let node = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let is_ready = ready_status(&fresh);
    if was_ready != is_ready {
        let (reason, message) = match is_ready.as_deref() {
            Some("True") => ("NodeReady", format!("Node {name} status is now: NodeReady")),
            _ => ("NodeNotReady", format!("Node {name} status is now: NodeNotReady")),
        };
        ctx.recorder.node(&node, Severity::Normal, reason, message);
        tracing::info!(node = name, reason, detail = observation.not_ready, "node readiness changed");
    }
    Ok(fresh)
}

fn ready_status(status: &NodeStatus) -> Option<String> {
    status.conditions.iter().flatten().find(|c| c.type_ == "Ready").map(|c| c.status.clone())
}

fn without_heartbeat(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}

/// Looks at the runtime, the machine and the images.
pub(super) async fn observe(ctx: &Context) -> Observation {
    let runtime = ctx.runtime.status().await;
    let names = runtime.as_ref().map(|status| status.handlers.clone()).unwrap_or_default();
    let user_namespaces = runtime.as_ref().is_ok_and(|status| status.user_namespaces.is_ok());
    let handlers = std::iter::once(String::new()).chain(names).map(|name| NodeRuntimeHandler {
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(user_namespaces && name.is_empty()),
        }),
        name: Some(name),
    });
    let limits_unavailable = runtime.as_ref().ok().and_then(|status| status.limits_unavailable.clone());
    let not_ready = match runtime {
        Ok(status) => not_ready(&status),
        Err(error) => Some(format!("container runtime is down: {error}")),
    };
    let mut images = match ctx.images.list_images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::debug!(%error, "cannot list images");
            Vec::new()
        }
    };
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let images = images.into_iter().take(MAX_IMAGES).map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = super::facts::meminfo_bytes(&meminfo, "MemAvailable");
    let disk_pressure = nix::sys::statvfs::statvfs(&ctx.config.root_dir)
        .is_ok_and(|disk| disk.blocks() > 0 && disk.blocks_available() * 100 / disk.blocks() < MIN_DISK_PERCENT);
    Observation {
        not_ready,
        limits_unavailable,
        memory_pressure: available.is_some_and(|bytes| bytes < MIN_MEMORY_BYTES),
        disk_pressure,
        images: images.collect(),
        handlers: handlers.collect(),
    }
}

/// Why the node is not ready, in the words of Kubernetes.
fn not_ready(status: &RuntimeStatus) -> Option<String> {
    let mut reasons = Vec::new();
    if let Err(reason) = &status.ready {
        reasons.push(format!("container runtime status check may not have completed yet: {reason}"));
    }
    if let Err(reason) = &status.network_ready {
        reasons.push(format!(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{reason}"
        ));
    }
    match reasons.len() {
        0 => None,
        1 => reasons.pop(),
        _ => Some(format!("[{}]", reasons.join(", "))),
    }
}

/// The status of this node; transition times are carried over from `previous`.
pub(super) fn of(ctx: &Context, previous: Option<&NodeStatus>, observation: &Observation) -> NodeStatus {
    let now = Timestamp::now();
    let mut addresses = Vec::new();
    let mut address = |type_: &str, address: String| addresses.push(NodeAddress { type_: type_.into(), address });
    for ip in &ctx.config.node_ips {
        address("InternalIP", ip.to_string());
    }
    for ip in &ctx.config.external_ips {
        address("ExternalIP", ip.to_string());
    }
    address("Hostname", ctx.config.hostname.clone());
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(ctx.facts.capacity()),
        allocatable: Some(ctx.facts.allocatable()),
        conditions: Some(conditions(previous, observation, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: ctx.config.port.into() }),
        }),
        images: Some(observation.images.clone()),
        runtime_handlers: Some(observation.handlers.clone()),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        node_info: Some(ctx.facts.node_info(&ctx.config.version)),
        ..Default::default()
    }
}

fn conditions(previous: Option<&NodeStatus>, observation: &Observation, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = Vec::new();
    let mut add = |type_: &str, status: bool, reason: &str, message: &str| {
        let status = if status { "True" } else { "False" };
        let old = previous.and_then(|p| p.conditions.iter().flatten().find(|c| c.type_ == type_));
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        conditions.push(NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        });
    };
    match observation.memory_pressure {
        false => add("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        true => {
            add("MemoryPressure", true, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
        }
    }
    match observation.disk_pressure {
        false => add("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        true => add("DiskPressure", true, "KubeletHasDiskPressure", "kubelet has disk pressure"),
    }
    add("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available");
    if let Some(reason) = &observation.limits_unavailable {
        add("ResourceLimitsUnavailable", true, "CgroupControllersUnavailable", reason);
    }
    match &observation.not_ready {
        None => add("Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(message) => add("Ready", false, "KubeletNotReady", message),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(not_ready: Option<&str>) -> Observation {
        Observation {
            not_ready: not_ready.map(Into::into),
            limits_unavailable: None,
            memory_pressure: false,
            disk_pressure: false,
            images: Vec::new(),
            handlers: Vec::new(),
        }
    }

    #[test]
    fn transition_times_change_only_with_the_status() {
        let early = Timestamp::from_second(1000).unwrap();
        let late = Timestamp::from_second(2000).unwrap();
        let first = NodeStatus {
            conditions: Some(conditions(None, &observation(Some("no network")), early)),
            ..Default::default()
        };
        let second = conditions(Some(&first), &observation(None), late);
        let time = |type_: &str| {
            let condition = second.iter().find(|c| c.type_ == type_).unwrap();
            (condition.status.clone(), condition.last_transition_time.clone().unwrap().0)
        };
        assert_eq!(time("Ready"), ("True".into(), late));
        assert_eq!(time("MemoryPressure"), ("False".into(), early));
    }

    #[test]
    fn both_reasons_of_not_being_ready_are_told() {
        let mut status = RuntimeStatus {
            handlers: Vec::new(),
            name: "k3s".into(),
            version: "1".into(),
            ready: Ok(()),
            network_ready: Err("no pod CIDR".into()),
            user_namespaces: Ok(()),
            controllers: vec![],
            limits_unavailable: None,
        };
        let message = not_ready(&status).unwrap();
        assert!(message.starts_with("container runtime network not ready: NetworkReady=false"), "{message}");
        status.ready = Err("starting".into());
        assert!(not_ready(&status).unwrap().starts_with('['));
        status.ready = Ok(());
        status.network_ready = Ok(());
        assert_eq!(not_ready(&status), None);
    }
}
