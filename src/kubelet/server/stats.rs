//! `/stats/summary`: usage, as the kubelet's stats API has it.

use http::{Response, StatusCode};
use jiff::Timestamp;
use k3s_cri::{ContainerState, Stats};
use k3s_streaming::{Body, Refusal};
use serde_json::{Value, json};

use super::request::json as json_response;
use crate::context::Context;
use crate::labels;

pub(super) async fn summary(ctx: &Context) -> Result<Response<Body>, Refusal> {
    let refuse = |error: k3s_cri::Error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let sandboxes = ctx.runtime.list_pod_sandboxes().await.map_err(refuse)?;
    let containers = ctx.runtime.list_containers().await.map_err(refuse)?;
    let mut pods = Vec::new();
    for sandbox in sandboxes {
        let mut stats = Vec::new();
        for container in &containers {
            let own = container.sandbox_id == sandbox.id && container.state == ContainerState::Running;
            if !own {
                continue;
            }
            match ctx.runtime.container_stats(&container.id).await {
                Ok(usage) => stats.push(of_container(&container.name, container.started_at, &usage)),
                // It may have ended meanwhile.
                Err(error) => tracing::debug!(container = container.id, %error, "no usage of container"),
            }
        }
        let label = |name: &str| sandbox.labels.get(name).cloned().unwrap_or_default();
        pods.push(json!({
            "podRef": { "name": label(labels::POD_NAME), "namespace": label(labels::POD_NAMESPACE), "uid": sandbox.uid },
            "startTime": time(sandbox.created_at),
            "containers": stats,
        }));
    }
    let node = json!({ "nodeName": ctx.config.node_name, "startTime": Value::Null });
    Ok(json_response(&json!({ "node": node, "pods": pods })))
}

fn of_container(name: &str, started_at: k3s_cri::Nanos, usage: &Stats) -> Value {
    json!({
        "name": name,
        "startTime": time(started_at),
        "cpu": { "time": time(usage.timestamp), "usageCoreNanoSeconds": usage.cpu_nanos },
        "memory": {
            "time": time(usage.timestamp),
            "workingSetBytes": usage.memory_working_set,
            "rssBytes": usage.memory_rss,
        },
    })
}

fn time(nanos: k3s_cri::Nanos) -> Option<String> {
    Timestamp::from_nanosecond(nanos.into()).ok().map(|time| time.to_string())
}
