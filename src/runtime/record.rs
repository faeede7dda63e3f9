//! What the runtime remembers of sandboxes and containers, on disk: a restart of k3s, or of the machine, finds it again.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use k3s_cri::{
    ContainerConfig, ContainerState, ContainerStatus, ContainerUser, Nanos, PodRef, PodSandboxConfig, PodSandboxStatus,
    SandboxState,
};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::descriptor;
use crate::shim::pod_processes;
use crate::syscall::signal_process;

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
    pub shim: Option<NamedProcess>,
}

/// A process, named for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedProcess {
    pub pid: i32,
    /// In clock ticks after boot.
    pub start_time: u64,
}

impl NamedProcess {
    /// A non-blocking pidfd of it; `None` if it has ended.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Is it still the same process? Asked after the pidfd was opened, so that the answer holds for it.
        let same = pod_processes::start_time(&self.pid.to_string()).ok() == Some(self.start_time);
        Ok(same.then_some(pidfd))
    }

    /// Kills it, if it still runs, and waits until it has ended. With the first process of a pid namespace the kernel
    /// ends all others, before that one counts as ended.
    pub(crate) async fn kill(self) -> io::Result<()> {
        let Some(pidfd) = self.open()? else { return Ok(()) };
        match signal_process(pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            result => result?,
        }
        descriptor::register(pidfd)?.readable().await?.retain_ready();
        Ok(())
    }
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
            runtime_handler: self.config.runtime_handler.clone(),
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
    /// Diff ids of the layers of images that are its volumes.
    #[serde(default)]
    pub volume_layers: Vec<String>,
    /// Its image is made of the k3s binary.
    pub builtin: bool,
    pub stop_signal: i32,
    pub log_path: PathBuf,
    pub cgroup: Option<PathBuf>,
    pub user: Option<ContainerUser>,
    /// First process as `/proc` shows it, while it runs.
    pub pid: i32,
    /// Serves its root file system, where the kernel does not.
    #[serde(default)]
    pub root_process: Option<NamedProcess>,
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
