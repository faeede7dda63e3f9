//! What a sandbox and a container are to be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod as the runtime sees it: the namespaces its containers share (CRI `PodSandboxConfig`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodSandboxConfig {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// Counts up each time the sandbox of the same pod is made anew.
    pub attempt: u32,
    /// Who runs the containers (the handler of the pod's RuntimeClass); empty: the default.
    #[serde(default)]
    pub runtime_handler: String,
    /// Empty for pods on the host's network.
    pub hostname: String,
    /// Where container logs go; `ContainerConfig::log_path` is below it.
    pub log_directory: PathBuf,
    /// `None`: the pod uses the node's resolv.conf.
    pub dns: Option<DnsConfig>,
    pub port_mappings: Vec<PortMapping>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespaceOptions,
    pub sysctls: BTreeMap<String, String>,
    /// Cgroup of the pod, relative to the root of the delegated subtree (`kubepods/burstable/pod<uid>`).
    pub cgroup_parent: String,
    pub resources: LinuxResources,
}

/// The contents of a pod's /etc/resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A port of the pod that the host shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: String,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Which namespaces a pod has of its own. `Default` is a namespace of the pod's own for network and ipc, and one per
/// container for pids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceOptions {
    /// `hostNetwork: true`
    pub host_network: bool,
    /// `hostIPC: true`
    pub host_ipc: bool,
    pub pid: PidMode,
    /// `hostUsers: false`: a user namespace of the pod's own. The network and IPC namespaces can't be the host's then.
    #[serde(default)]
    pub user: Option<IdMappings>,
}

/// Which ids of the node stand for the ids of a pod's user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMappings {
    pub uids: IdMapping,
    pub gids: IdMapping,
}

/// A range of ids (CRI `IDMapping`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first one, in the namespace that the runtime is in.
    pub host_id: u32,
    /// The first one in the pod.
    pub container_id: u32,
    pub length: u32,
}

impl IdMapping {
    /// The node's id for one of the pod's; `None` if it has none.
    pub fn on_host(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container_id).filter(|offset| *offset < self.length)?;
        self.host_id.checked_add(offset)
    }
}

/// Which pid namespace a container runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// One of its own.
    #[default]
    Container,
    /// Shared by the containers of the pod (`shareProcessNamespace: true`).
    Pod,
    /// The node's (`hostPID: true`).
    Host,
}

/// A container to run in a sandbox (CRI `ContainerConfig`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub name: String,
    /// Counts up with each restart of the same container.
    pub attempt: u32,
    /// Id of the image ([`Image::id`]), already present.
    pub image_id: String,
    /// The image as the user wrote it.
    pub image: String,
    /// Replaces the image's entrypoint if not empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd if not empty.
    pub args: Vec<String>,
    /// Empty: the image's.
    pub working_dir: String,
    /// Added to the image's environment; later entries win.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's `log_directory`, e.g. `web/0.log`. CRI log format.
    pub log_path: PathBuf,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub security: SecurityContext,
    pub resources: LinuxResources,
    /// Id of a running container of the same pod whose pid namespace it joins (CRI `NamespaceMode::TARGET`), in place of
    /// what the pod says.
    #[serde(default)]
    pub target: Option<String>,
    /// Ends it in place of the image's signal (`SIGUSR1`, `9`).
    #[serde(default)]
    pub stop_signal: Option<String>,
}

/// A file or folder of the node, or the contents of an image, that a container sees.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    pub readonly: bool,
    /// Submounts are made read-only too (KEP-3857).
    pub recursive_read_only: bool,
    pub propagation: Propagation,
    /// Files belong to whom they would belong to were their owners' ids those of the pod's user namespace. Must be the
    /// pod's own mappings.
    #[serde(default)]
    pub id_mappings: Option<IdMappings>,
    /// In place of `host_path`: what of an image is seen, read-only (KEP-4639).
    #[serde(default)]
    pub image: Option<ImageMount>,
}

/// An image as a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Id of the image, already present.
    pub image_id: String,
    /// A path in it; empty: all of it.
    pub sub_path: PathBuf,
}

/// Mount propagation between node and container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A device node of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// Limits; zero or `None` means none (CRI `LinuxContainerResources`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinuxResources {
    /// Microseconds.
    pub cpu_period: u64,
    /// Microseconds per period; 0 is no limit.
    pub cpu_quota: i64,
    /// cgroup v1 scale (2 to 262144).
    pub cpu_shares: u64,
    /// Bytes.
    pub memory_limit: i64,
    /// Bytes of memory and swap together, as in cgroup v1; 0: no swap beyond a memory limit.
    #[serde(default)]
    pub memory_swap_limit: i64,
    pub oom_score_adj: i64,
    pub pids_limit: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Bytes by size of page (`2MB`, `1GB`).
    #[serde(default)]
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files and values to write as they are.
    pub unified: BTreeMap<String, String>,
}

/// With which rights a container runs (CRI `LinuxContainerSecurityContext`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecurityContext {
    pub privileged: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    /// Kept across `execve` by users other than root.
    #[serde(default)]
    pub ambient_capabilities: Vec<String>,
    /// `None`: `run_as_username`.
    pub run_as_user: Option<u32>,
    /// A user of the image's /etc/passwd; empty: the image's user.
    #[serde(default)]
    pub run_as_username: String,
    pub run_as_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    #[serde(default)]
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    /// `None`: the default list of the OCI runtimes.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub seccomp: SecurityProfile,
    pub apparmor: SecurityProfile,
}

/// Which groups a container's user is in beside those that are asked for (KEP-3619).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// Those of the image's /etc/group too.
    #[default]
    Merge,
    /// No others.
    Strict,
}

/// A seccomp or AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    #[default]
    RuntimeDefault,
    Unconfined,
    Localhost(String),
}
