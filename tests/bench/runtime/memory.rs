//! What pods that do nothing take.

use std::collections::BTreeMap;

use crate::cri;
use crate::runtimes::Server;

/// In KiB.
pub struct Held {
    /// Private memory of an idle pod's shim (and its pause process, where there is one): the median.
    pub shim: u64,
    /// Private memory that the runtime's process has more than without pods.
    pub server: u64,
}

/// Private memory of a process, in KiB; nothing if it is gone.
fn private(pid: u32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name: &str| {
        smaps.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok())
    };
    kib("Private_Clean:").unwrap_or(0) + kib("Private_Dirty:").unwrap_or(0)
}

/// Every process but those of the containers' own, by what its command line names: shims and pause processes.
fn overhead(server: &Server) -> BTreeMap<u32, u64> {
    let folder = server.directory.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| Some(*pid) != server.process.id())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&folder) || line.contains("sleep\u{0}1000000")
        })
        .map(|pid| (pid, private(pid)))
        .collect()
}

/// Starts pods, reads, and removes them.
pub async fn of_idle_pods(server: &Server, pods: usize) -> Held {
    let pid = server.process.id().expect("a process");
    let before = private(pid);
    let mut ids = Vec::new();
    for pod in 0..pods {
        ids.push(cri::start(server.runtime.clone(), server.directory.clone(), format!("idle-{pod}")).await.0);
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let shims: u64 = overhead(server).into_values().sum();
    let after = private(pid);
    for id in ids {
        cri::remove(server.runtime.clone(), id).await;
    }
    Held { shim: shims / pods as u64, server: after.saturating_sub(before) }
}
