//! Usage of containers and pods: from their cgroups where there are any, else added up over their processes; what their
//! files take on disk; and what went over their networks.

mod cgroup;
mod network;
mod processes;
mod rate;

use std::path::Path;
use std::sync::Arc;

use k3s_cri::{ContainerState, Error, FilesystemUsage, Stats};

pub(crate) use self::network::Interface;
pub(crate) use self::processes::Processes;
pub(crate) use self::rate::CpuRate;
use crate::container::Container;
use crate::disk::Usage;
use crate::image::blocking;
use crate::runtime::Runtime;
use crate::snapshot;

/// Usage of a pod.
pub(crate) struct PodUsage {
    /// Of all its processes.
    pub stats: Stats,
    /// In its own network namespace; empty on the host's.
    pub interfaces: Vec<Interface>,
}

impl Runtime {
    /// Usage of a running container.
    pub(crate) async fn usage(&self, container: Arc<Container>) -> Result<Stats, Error> {
        let runtime = self.strong()?;
        blocking("read usage", move || runtime.read_usage(&container)).await
    }

    fn read_usage(&self, container: &Container) -> std::io::Result<Stats> {
        let (pid, cgroup) = {
            let record = container.record.lock();
            (record.pid, record.cgroup.clone())
        };
        let mut stats = match cgroup {
            // Without the memory and cpu controllers a cgroup tells too little.
            Some(cgroup) => cgroup::usage(&cgroup).or_else(|_| self.processes.of_container(pid)),
            None => self.processes.of_container(pid),
        }?;
        stats.cpu_nano_cores = container.cpu_rate.lock().next(stats.timestamp, stats.cpu_nanos);
        let usage = self.disk.of(&snapshot::writable(&self.container_directory(&container.id)))?;
        stats.writable_layer = Some(self.filesystem(usage));
        Ok(stats)
    }

    /// Usage of a pod whose containers use this much.
    pub(crate) async fn pod_usage(&self, sandbox_id: &str, containers: &[Stats]) -> Result<PodUsage, Error> {
        let record = self.sandbox(sandbox_id)?.record.lock().clone();
        let cgroup = self.pod_cgroup(&record.config).filter(|_| !containers.is_empty());
        let own_network = !record.config.namespaces.host_network;
        let shim = record.shim.filter(|_| own_network).map(|shim| shim.pid);
        let sum = sum(containers);
        blocking("read usage", move || {
            let stats = cgroup.and_then(|cgroup| cgroup::usage(&cgroup).ok()).unwrap_or(sum);
            let interfaces = match shim.map(network::interfaces) {
                None => Vec::new(),
                // The pod has ended meanwhile.
                Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Some(interfaces) => interfaces?,
            };
            Ok::<_, std::io::Error>(PodUsage { stats, interfaces })
        })
        .await
    }

    /// Running containers; those of one sandbox, if it is named.
    pub(crate) fn running_containers(&self, sandbox_id: Option<&str>) -> Vec<Arc<Container>> {
        let wanted = |container: &&Arc<Container>| {
            container.state() == ContainerState::Running && sandbox_id.is_none_or(|id| container.sandbox_id == id)
        };
        self.containers.read().values().filter(wanted).cloned().collect()
    }

    pub(crate) fn filesystem(&self, usage: Usage) -> FilesystemUsage {
        FilesystemUsage {
            timestamp: usage.timestamp,
            mountpoint: self.options.root.clone(),
            used_bytes: usage.bytes,
            inodes_used: usage.inodes,
        }
    }

    /// What images, their unpacked layers and containers' own files take together. Of what never changes, it is measured
    /// once.
    pub(crate) fn image_filesystem(&self) -> std::io::Result<FilesystemUsage> {
        let mut total = self.disk.of(&self.options.root.join("images"))?;
        let mut add = |usage: Usage| {
            total.timestamp = total.timestamp.max(usage.timestamp);
            total.bytes += usage.bytes;
            total.inodes += usage.inodes;
        };
        let layers = self.options.root.join("snapshots");
        for layer in std::fs::read_dir(&layers)? {
            let layer = layer?;
            // One that is being unpacked still changes, and has another name afterwards.
            if !layer.file_name().to_string_lossy().starts_with("new-") {
                add(self.disk.of_fixed(&layer.path())?);
            }
        }
        let containers: Vec<_> = self.containers.read().keys().map(|id| self.container_directory(id)).collect();
        for container in containers {
            add(self.disk.of(&snapshot::writable(&container))?);
        }
        self.disk.forget_missing();
        Ok(self.filesystem(total))
    }
}

/// Usage of containers, added up.
fn sum(containers: &[Stats]) -> Stats {
    let add = |total: Option<u64>, more: Option<u64>| match (total, more) {
        (None, None) => None,
        (total, more) => Some(total.unwrap_or(0) + more.unwrap_or(0)),
    };
    let mut total = Stats::default();
    for stats in containers {
        total.timestamp = total.timestamp.max(stats.timestamp);
        total.cpu_nanos += stats.cpu_nanos;
        total.cpu_user_nanos += stats.cpu_user_nanos;
        total.cpu_system_nanos += stats.cpu_system_nanos;
        total.cpu_nano_cores = add(total.cpu_nano_cores, stats.cpu_nano_cores);
        total.memory_usage += stats.memory_usage;
        total.memory_working_set += stats.memory_working_set;
        total.memory_rss += stats.memory_rss;
        total.page_faults += stats.page_faults;
        total.major_page_faults += stats.major_page_faults;
        total.swap_usage = add(total.swap_usage, stats.swap_usage);
        total.processes += stats.processes;
    }
    total
}

/// Lines of `name value` as a cgroup's files have them: the value of one name.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A file with one number; `None` if it is not there, or says `max`.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
