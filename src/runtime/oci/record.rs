//! What is known of a container on disk, and how it stands by what the kernel says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{ContainerState, LinuxNamespaceType, Spec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::VERSION;
use super::error::{Doing, Error};
use super::namespaces::Namespaces;
use crate::record;
use crate::shim::{clock, pod_processes};

const RECORD: &str = "record.json";
const CONFIG: &str = "config.json";
const SOCKET: &str = "start.sock";

/// A container: `<root>/<id>/record.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    /// Numeric user who made it.
    pub owner: u32,
    pub annotations: BTreeMap<String, String>,
    /// Directory of its cgroup, where it has one.
    pub cgroup: Option<PathBuf>,
    /// Its mount namespace is nobody else's.
    pub own_mounts: bool,
    /// The `create` that makes it.
    pub maker: Process,
    /// First process, once it waits to be started.
    pub process: Option<Process>,
}

/// A process as `/proc` shows it, named for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub pid: i32,
    pub start_time: u64,
}

impl Process {
    /// The process behind a pidfd.
    pub(super) fn behind(pidfd: &OwnedFd) -> io::Result<Self> {
        let pid = pod_processes::proc_pid(pidfd)?;
        Ok(Self { pid, start_time: pod_processes::start_time(&pid.to_string())? })
    }

    fn this() -> io::Result<Self> {
        let name = fs::read_link("/proc/self")?;
        let pid = name.to_str().and_then(|pid| pid.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, start_time: pod_processes::start_time("self")? })
    }

    /// Is it there, and more than a zombie?
    pub(super) fn is_alive(self) -> bool {
        let name = self.pid.to_string();
        let Ok(stat) = fs::read_to_string(format!("/proc/{name}/stat")) else { return false };
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        !matches!(state, Some('Z' | 'X') | None) && pod_processes::start_time(&name).ok() == Some(self.start_time)
    }

    /// A descriptor of it; `None` when it has ended.
    pub(super) fn open(self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        // Asked after the pidfd was opened, so that the answer holds for it.
        self.is_alive().then_some(pidfd)
    }
}

/// A container's directory.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub id: String,
    directory: PathBuf,
}

impl Container {
    fn at(root: &Path, id: &str) -> Result<Self, Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() || !id.bytes().all(good) || id.starts_with('.') || id.len() > 255 {
            return Err(Error::BadId(id.to_owned()));
        }
        Ok(Self { id: id.to_owned(), directory: root.join(id) })
    }

    /// A new one. Of several who try at once, one succeeds.
    pub(super) fn make(root: &Path, id: &str) -> Result<Self, Error> {
        let container = Self::at(root, id)?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711).recursive(true).create(root).doing(format!("create {}", root.display()))?;
        match fs::DirBuilder::new().mode(0o700).create(&container.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists(id.to_owned())),
            result => result.doing(format!("create {}", container.directory.display())).map(|()| container),
        }
    }

    /// One that is there.
    pub(super) fn find(root: &Path, id: &str) -> Result<Self, Error> {
        let container = Self::at(root, id)?;
        if container.directory.is_dir() { Ok(container) } else { Err(Error::Unknown(id.to_owned())) }
    }

    /// All that are there, by name.
    pub(super) fn all(root: &Path) -> Vec<Self> {
        let names = fs::read_dir(root).into_iter().flatten().flatten();
        let mut all: Vec<_> = names.filter_map(|entry| Self::find(root, entry.file_name().to_str()?).ok()).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// What no other container of this host is called, whatever root it lies under.
    pub(super) fn unique_name(&self) -> Result<String, Error> {
        let directory = fs::metadata(&self.directory).doing(format!("look at {}", self.directory.display()))?;
        // With the numbers it is still short enough for a file's name.
        Ok(format!("{:.200}-{:x}-{:x}", self.id, directory.dev(), directory.ino()))
    }

    pub(super) fn save(&self, record: &Record) -> Result<(), Error> {
        record::save(&self.directory.join(RECORD), record).doing(format!("save container {}", self.id))
    }

    /// `None`: its `create` was killed before it had written anything.
    pub(super) fn record(&self) -> Result<Option<Record>, Error> {
        read(&self.directory.join(RECORD))
    }

    pub(super) fn save_config(&self, spec: &Spec) -> Result<(), Error> {
        record::save(&self.directory.join(CONFIG), spec).doing(format!("save configuration of container {}", self.id))
    }

    pub(super) fn config(&self) -> Result<Option<Spec>, Error> {
        read(&self.directory.join(CONFIG))
    }

    /// Forgets the container.
    pub(super) fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(format!("remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }

    /// The socket on which the first process waits for its start.
    pub(super) fn listen(&self) -> Result<OwnedFd, Error> {
        let doing = "listen for the start";
        let socket = socket().doing(doing)?;
        let (_parent, address) = self.address().doing(doing)?;
        rustix::net::bind(&socket, &address).doing(doing)?;
        rustix::net::listen(&socket, 8).doing(doing)?;
        Ok(socket)
    }

    /// `None`: nobody listens (any more).
    pub(super) fn connect(&self) -> Option<OwnedFd> {
        let socket = socket().ok()?;
        let (_parent, address) = self.address().ok()?;
        rustix::net::connect(&socket, &address).ok()?;
        Some(socket)
    }

    /// Through a descriptor: a socket's address has room for 108 bytes.
    fn address(&self) -> io::Result<(fs::File, SocketAddrUnix)> {
        let parent = fs::File::open(&self.directory)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", parent.as_raw_fd()))?;
        Ok((parent, address))
    }

    /// How it stands.
    pub(super) fn status(&self, record: Option<&Record>) -> ContainerState {
        match record {
            // What a `create` that was killed has made ends with it.
            None => ContainerState::Stopped,
            Some(Record { process: None, maker, .. }) if maker.is_alive() => ContainerState::Creating,
            Some(Record { process: None, .. }) => ContainerState::Stopped,
            Some(Record { process: Some(process), .. }) if !process.is_alive() => ContainerState::Stopped,
            Some(_) if self.connect().is_some() => ContainerState::Created,
            Some(_) => ContainerState::Running,
        }
    }
}

impl Record {
    pub(super) fn new(id: &str, bundle: &Path, spec: &Spec, namespaces: &Namespaces) -> Result<Self, Error> {
        let mut created = Vec::new();
        clock::append_rfc3339(&mut created, clock::now());
        let path = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        Ok(Self {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            rootfs: bundle.join(path),
            created: String::from_utf8_lossy(&created).into_owned(),
            owner: rustix::process::geteuid().as_raw(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            cgroup: None,
            own_mounts: namespaces.is_new(LinuxNamespaceType::Mount),
            maker: Process::this().doing("read /proc/self")?,
            process: None,
        })
    }

    /// The state as the specification has it, for hooks and `state`. `pid`: as whoever reads it sees the process.
    pub(super) fn state(&self, status: ContainerState, pid: i32) -> Value {
        json!({
            "ociVersion": VERSION,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::damaged(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(format!("read {}", path.display())),
    }
}
