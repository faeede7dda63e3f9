//! `/stats/summary`: usage, as the kubelet's stats API has it.

use std::path::Path;

use http::{Response, StatusCode};
use jiff::Timestamp;
use k3s_cri::{ContainerState, ContainerStatus, FilesystemUsage, Stats};
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
                Ok(usage) => stats.push(of_container(container, &usage)),
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
    // Images and containers are on one file system.
    let images = ctx.images.image_fs_info().await.map_err(refuse)?;
    let images = file_system(&images);
    let node = json!({
        "nodeName": ctx.config.node_name,
        "startTime": Value::Null,
        "runtime": { "imageFs": images, "containerFs": images },
    });
    Ok(json_response(&json!({ "node": node, "pods": pods })))
}

fn of_container(container: &ContainerStatus, usage: &Stats) -> Value {
    let mut memory = json!({
        "time": time(usage.timestamp),
        "usageBytes": usage.memory_usage,
        "workingSetBytes": usage.memory_working_set,
        "rssBytes": usage.memory_rss,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    });
    let mut cpu = json!({ "time": time(usage.timestamp), "usageCoreNanoSeconds": usage.cpu_nanos });
    set(&mut memory, "availableBytes", usage.memory_available);
    set(&mut cpu, "usageNanoCores", usage.cpu_nano_cores);
    let mut stats = json!({
        "name": container.name,
        "startTime": time(container.started_at),
        "cpu": cpu,
        "memory": memory,
        "logs": logs(&container.log_path),
    });
    if let Some(swap_usage) = usage.swap_usage {
        let mut swap = json!({ "time": time(usage.timestamp), "swapUsageBytes": swap_usage });
        set(&mut swap, "swapAvailableBytes", usage.swap_available);
        stats["swap"] = swap;
    }
    if let Some(layer) = &usage.writable_layer {
        stats["rootfs"] = file_system(layer);
    }
    stats
}

fn set(stats: &mut Value, field: &str, value: Option<u64>) {
    if let Some(value) = value {
        stats[field] = value.into();
    }
}

/// A file system and what is used of it by the one in question.
fn file_system(usage: &FilesystemUsage) -> Value {
    let mut stats = of_file_system(&usage.mountpoint);
    stats["time"] = time(usage.timestamp).into();
    stats["usedBytes"] = usage.used_bytes.into();
    stats["inodesUsed"] = usage.inodes_used.into();
    stats
}

/// What a file system has and what is left of it. Nothing, where it can't be asked.
fn of_file_system(path: &Path) -> Value {
    match nix::sys::statvfs::statvfs(path) {
        Ok(stat) => json!({
            "availableBytes": stat.blocks_available() * stat.fragment_size(),
            "capacityBytes": stat.blocks() * stat.fragment_size(),
            "inodes": stat.files(),
            "inodesFree": stat.files_free(),
        }),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no usage of file system");
            json!({})
        }
    }
}

/// A container's logs: the one that is written, those of earlier runs and those that were rotated away lie in one
/// directory.
fn logs(log: &Path) -> Value {
    let Some(directory) = log.parent() else { return json!({}) };
    let mut stats = of_file_system(directory);
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    // One that is rotated away meanwhile counts nothing.
    let sizes: Vec<u64> = files.filter_map(|file| Some(file.metadata().ok()?.len())).collect();
    stats["time"] = Timestamp::now().to_string().into();
    stats["usedBytes"] = sizes.iter().sum::<u64>().into();
    stats["inodesUsed"] = sizes.len().into();
    stats
}

fn time(nanos: k3s_cri::Nanos) -> Option<String> {
    Timestamp::from_nanosecond(nanos.into()).ok().map(|time| time.to_string())
}
