//! Pods: what a pod is up to, in one word.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fields::{Fields, or_none};
use super::{Cells, object_age};
use crate::time::{human_duration, parse};

/// Why a row of a pod is not shown by a client that asks for unfinished ones; `None` for those.
pub(super) fn conditions(pod: Fields<'_>) -> Option<Value> {
    let (reason, message) = match pod.text("status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// What is counted and said while looking through the containers.
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

impl Summary {
    fn count_restarts(&mut self, status: Fields<'_>) {
        self.restarts += status.int("restartCount");
        self.last_restart = self.last_restart.max(parse(status.text("lastState.terminated.finishedAt")));
    }
}

pub(super) fn cells(pod: Fields<'_>, now: Timestamp) -> Cells {
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, human_duration(now.duration_since(last).as_secs()))
        }
        _ => summary.restarts.to_string(),
    };
    let address = pod.list("status.podIPs").next().map_or(pod.text("status.podIP"), |ip| ip.text("ip"));
    let gates = pod.list("spec.readinessGates");
    let gates = match gates.len() {
        0 => "<none>".to_owned(),
        all => format!("{}/{all}", gates.filter(|gate| pod.is(gate.text("conditionType"))).count()),
    };
    vec![
        pod.name(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        object_age(pod, now),
        or_none(address.to_owned()).into(),
        pod.text_or("spec.nodeName", "<none>").into(),
        pod.text_or("status.nominatedNodeName", "<none>").into(),
        gates.into(),
    ]
}

fn summarize(pod: Fields<'_>) -> Summary {
    let phase = pod.text("status.phase");
    let gated = pod.condition("PodScheduled").is_some_and(|condition| condition.text("reason") == "SchedulingGated");
    let mut summary = Summary {
        ready: 0,
        total: pod.count("spec.containers"),
        restarts: 0,
        last_restart: None,
        reason: if gated { "SchedulingGated" } else { pod.text_or("status.reason", phase) }.to_owned(),
    };
    // Init containers that keep running (sidecars) count as containers.
    let sidecars: HashMap<&str, bool> = pod
        .list("spec.initContainers")
        .map(|container| (container.text("name"), container.text("restartPolicy") == "Always"))
        .collect();
    summary.total += sidecars.values().filter(|sidecar| **sidecar).count();
    let mut of_sidecars = Summary { ready: 0, total: 0, restarts: 0, last_restart: None, reason: String::new() };
    let initializing = init_containers(pod, &sidecars, &mut summary, &mut of_sidecars);
    if !initializing || pod.is("Initialized") {
        summary.restarts = of_sidecars.restarts;
        summary.last_restart = of_sidecars.last_restart;
        containers(pod, &mut summary);
    }
    if pod.has("metadata.deletionTimestamp") {
        if pod.text("status.reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Goes through the init containers up to the first that is not done; `true` if there is one.
fn init_containers(
    pod: Fields<'_>,
    sidecars: &HashMap<&str, bool>,
    summary: &mut Summary,
    of_sidecars: &mut Summary,
) -> bool {
    for (index, status) in pod.list("status.initContainerStatuses").enumerate() {
        let sidecar = sidecars.get(status.text("name")).copied().unwrap_or_default();
        summary.count_restarts(status);
        if sidecar {
            of_sidecars.count_restarts(status);
        }
        let waiting = status.text("state.waiting.reason");
        match status.at("state.terminated") {
            Some(terminated) if terminated.int("exitCode") == 0 => continue,
            _ if sidecar && status.bool("started") => {
                summary.ready += usize::from(status.bool("ready"));
                continue;
            }
            Some(terminated) => summary.reason = format!("Init:{}", how_terminated(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => summary.reason = format!("Init:{waiting}"),
            None => summary.reason = format!("Init:{index}/{}", pod.count("spec.initContainers")),
        }
        return true;
    }
    false
}

fn how_terminated(terminated: Fields<'_>) -> String {
    match (terminated.text("reason"), terminated.int("signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers(pod: Fields<'_>, summary: &mut Summary) {
    let mut running = false;
    for status in pod.list("status.containerStatuses").rev() {
        summary.count_restarts(status);
        let waiting = status.text("state.waiting.reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = status.at("state.terminated") {
            summary.reason = how_terminated(terminated);
        } else if status.bool("ready") && status.has("state.running") {
            running = true;
            summary.ready += 1;
        }
    }
    // One container is done, another still runs.
    if summary.reason == "Completed" && running {
        summary.reason = if pod.is("Ready") { "Running" } else { "NotReady" }.to_owned();
    }
}
