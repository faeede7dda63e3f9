//! What the runtime tells about sandboxes, containers and images.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Nanoseconds since the epoch, 0 for "not yet".
pub type Nanos = i64;

/// Sandbox states of CRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    NotReady,
}

/// A sandbox (CRI `PodSandboxStatus`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSandboxStatus {
    pub id: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    pub state: SandboxState,
    pub created_at: Nanos,
    /// Empty on the host's network.
    pub ips: Vec<IpAddr>,
    /// Who runs its containers; empty: the default.
    #[serde(default)]
    pub runtime_handler: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Container states of CRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// The runtime lost track of it (its shim is gone).
    Unknown,
}

/// A container (CRI `ContainerStatus`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub created_at: Nanos,
    pub started_at: Nanos,
    pub finished_at: Nanos,
    /// 128 + n when signal n ended it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, … when exited.
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    /// `repo@sha256:…` or the image id.
    pub image_ref: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub log_path: PathBuf,
    /// User and groups of the first process.
    pub user: Option<ContainerUser>,
    /// Limits in force; `None` where this host can't enforce any.
    pub resources: Option<crate::LinuxResources>,
}

/// Identity of a container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    pub uid: u32,
    pub gid: u32,
    pub supplemental_groups: Vec<u32>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// `docker.io/library/busybox:1.36`, fully qualified.
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Numeric user of the image, if it names one.
    pub uid: Option<u32>,
    /// User name of the image, if it is not numeric.
    pub username: String,
    /// Never garbage collected.
    pub pinned: bool,
}

/// A file system and what images and containers use of it (CRI `FilesystemUsage`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemUsage {
    pub timestamp: Nanos,
    /// A directory on it.
    pub mountpoint: PathBuf,
    pub used_bytes: u64,
    pub inodes_used: u64,
}

/// Usage of a container or a pod. Counts go from its beginning on; what a host can't tell is 0 or `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub timestamp: Nanos,
    /// Cumulative CPU time, nanoseconds; and in it what was spent outside of the kernel and in it.
    pub cpu_nanos: u64,
    pub cpu_user_nanos: u64,
    pub cpu_system_nanos: u64,
    /// Periods of the CPU limit, those in which it held processes back, and for how many nanoseconds.
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled_nanos: u64,
    /// CPU time per second of the last seconds, nanoseconds; `None` until it was asked for twice.
    pub cpu_nano_cores: Option<u64>,
    /// Bytes.
    pub memory_usage: u64,
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_cache: u64,
    pub memory_mapped_file: u64,
    /// What the limit leaves beyond the working set; `None` without a limit.
    pub memory_available: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Bytes.
    pub swap_usage: Option<u64>,
    /// What the limit leaves; `None` without a limit.
    pub swap_available: Option<u64>,
    /// How often the kernel has killed for want of memory.
    pub oom_kills: u64,
    /// Bytes from and to block devices.
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub processes: u64,
    /// What a container's own files take, as opposed to its image's.
    pub writable_layer: Option<FilesystemUsage>,
}

/// Something happened to a container or sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    pub kind: ContainerEventKind,
    pub container_id: String,
    pub sandbox_id: String,
    pub pod_uid: String,
}

/// Kinds of [`ContainerEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerEventKind {
    Created,
    Started,
    Stopped,
    Deleted,
}

/// What the runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    pub name: String,
    pub version: String,
    /// `Err` with the reason if pods can't be run.
    pub ready: Result<(), String>,
    pub network_ready: Result<(), String>,
    /// Handlers of RuntimeClasses besides the default.
    pub handlers: Vec<String>,
    /// `Err` with the reason if pods can't have user namespaces of their own.
    pub user_namespaces: Result<(), String>,
    /// cgroup v2 controllers that can be used for pods; empty: limits are not enforced, and why.
    pub controllers: Vec<String>,
    pub limits_unavailable: Option<String>,
}
