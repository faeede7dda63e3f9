//! What the runtime remembers of sandboxes and containers, on disk: a restart of k3s, or of the machine, finds it again.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k3s_cri::{
    ContainerConfig, ContainerState, ContainerStatus, ContainerUser, Nanos, PodRef, PodSandboxConfig, PodSandboxStatus,
    SandboxState,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A sandbox: `<root>/sandboxes/<id>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub id: String,
    pub config: PodSandboxConfig,
    pub state: SandboxState,
    /// It stood once; a record without this is of one that was never finished.
    pub complete: bool,
    pub created_at: Nanos,
    pub ips: Vec<IpAddr>,
    pub shim: Option<ShimProcess>,
}

/// The process of a shim, named for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimProcess {
    pub pid: i32,
    pub start_time: u64,
}

impl SandboxRecord {
    pub(crate) fn status(&self) -> PodSandboxStatus {
        PodSandboxStatus {
            id: self.id.clone(),
            name: self.config.name.clone(),
            namespace: self.config.namespace.clone(),
            uid: self.config.uid.clone(),
            attempt: self.config.attempt,
            state: self.state,
            created_at: self.created_at,
            ips: self.ips.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    pub(crate) fn pod(&self) -> PodRef {
        PodRef {
            sandbox_id: self.id.clone(),
            namespace: self.config.namespace.clone(),
            name: self.config.name.clone(),
            uid: self.config.uid.clone(),
        }
    }
}

/// A container: `<root>/containers/<id>/record.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    pub state: ContainerState,
    pub created_at: Nanos,
    pub started_at: Nanos,
    pub finished_at: Nanos,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image_id: String,
    pub image_ref: String,
    /// Diff ids of the layers it stands on.
    pub layers: Vec<String>,
    /// Its image is made of the k3s binary.
    pub builtin: bool,
    pub stop_signal: i32,
    pub log_path: PathBuf,
    pub cgroup: Option<PathBuf>,
    pub user: Option<ContainerUser>,
    /// First process as `/proc` shows it, while it runs.
    pub pid: i32,
}

impl ContainerRecord {
    pub(crate) fn status(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            name: self.config.name.clone(),
            attempt: self.config.attempt,
            state: self.state,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            exit_code: self.exit_code,
            reason: self.reason.clone(),
            message: self.message.clone(),
            image: self.config.image.clone(),
            image_id: self.image_id.clone(),
            image_ref: self.image_ref.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            log_path: self.log_path.clone(),
            user: self.user.clone(),
            resources: self.cgroup.as_ref().map(|_| self.config.resources.clone()),
        }
    }
}

/// Writes a file so that readers, also after a crash, see the old content or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

pub(crate) fn save<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    replace(path, &serde_json::to_vec(record)?)
}

/// Reads a record. One that can't be read is reported and counts as none: what belongs to it is cleared.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let record = fs::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    record.map_err(|error: io::Error| tracing::warn!(record = %path.display(), %error, "record is damaged")).ok()
}
