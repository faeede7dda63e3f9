//! The state directory: a lock that says who serves it, and a record of the namespaces' init.
//!
//! What is stale is recognized by lock and process identity, never by a file being there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// How long a lock may be held by a process that is just ending before it counts as in use.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Something about the state directory that cannot be got past.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "k3s already runs on this data directory: process {pid} holds {path:?}; stop it first, or use another --data-dir"
    )]
    Locked { path: PathBuf, pid: i32 },
    #[error("{path:?} is held by another process that left no pid in it; find it with: fuser -v {}", path.display())]
    LockedByUnknown { path: PathBuf },
    #[error("cannot {doing} {path:?}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot end the namespaces' init, process {pid}: {source}")]
    Kill { pid: i32, source: io::Error },
}

/// `<data-dir>/rootless`.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// Held for as long as a launcher serves a state directory; the kernel frees it when it dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// `init.json`: the process that holds the namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitRecord {
    #[serde(flatten)]
    pub process: ProcessId,
    /// What was copied up; it can't be changed while the namespaces live.
    pub copy_up_dirs: Vec<PathBuf>,
    /// Whether the namespaces were made without a way out (`K3S_ROOTLESS_NET_DRIVER=none`).
    #[serde(default)]
    pub isolated: bool,
    /// The cgroup that is theirs, as the host has it.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// What the kernel did not permit when the namespaces were made.
    pub warnings: Vec<String>,
}

impl StateDir {
    /// Makes it, mode 0700, where it is not there yet.
    ///
    /// # Errors
    /// It cannot be made or does not belong to the caller.
    pub fn create(path: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { doing: "make the state directory", path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(io)?,
        }
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
        Ok(Self { path: path.to_owned() })
    }

    /// An existing one.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// What the network driver of this name says.
    pub(crate) fn driver_log(&self, driver: &str) -> PathBuf {
        self.path.join(format!("{driver}.log"))
    }

    /// A pipe by which a network driver says that it is ready.
    pub(crate) fn driver_ready(&self) -> PathBuf {
        self.path.join("driver.ready")
    }

    /// slirp4netns's own API.
    pub(crate) fn slirp4netns_socket(&self) -> PathBuf {
        self.path.join("slirp4netns.sock")
    }

    fn init_path(&self) -> PathBuf {
        self.path.join("init.json")
    }

    /// Takes the lock for this process.
    ///
    /// # Errors
    /// [`StateError::Locked`] names the process that has it. A holder that is just ending is
    /// waited for.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if let Some(lock) = self.try_lock()? {
                lock.name(std::process::id() as i32).map_err(|e| self.io("write", self.lock_path(), e))?;
                return Ok(lock);
            }
            let holder = fs::read_to_string(self.lock_path()).ok().and_then(|text| serde_json::from_str(&text).ok());
            let holder: Option<ProcessId> = holder;
            match holder {
                Some(holder) if holder.is_alive() => {
                    return Err(StateError::Locked { path: self.lock_path(), pid: holder.pid });
                }
                // An init that is about to leave, or a launcher between open and write.
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return Err(StateError::LockedByUnknown { path: self.lock_path() }),
            }
        }
    }

    /// Takes the lock if nobody has it, and does not say who took it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, StateError> {
        let path = self.lock_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| self.io("open", path.clone(), e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(self.io("lock", path, e.into())),
        }
    }

    /// The record of the init, where that init still lives.
    ///
    /// # Errors
    /// As [`Self::recorded_init`].
    pub fn living_init(&self) -> Result<Option<InitRecord>, StateError> {
        Ok(self.recorded_init()?.filter(|r| r.process.is_alive()))
    }

    /// The record of the init, whether or not it lives.
    ///
    /// # Errors
    /// The record is there and cannot be read. One that makes no sense counts as none: writing it
    /// is atomic, so it is not ours.
    pub(crate) fn recorded_init(&self) -> Result<Option<InitRecord>, StateError> {
        let path = self.init_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io("read", path, e)),
        };
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Writes the record so that it is either whole or not there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record_init(&self, record: &InitRecord) -> Result<(), StateError> {
        let path = self.init_path();
        let partial = self.path.join(".init.json");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            fs::rename(&partial, &path)
        };
        write().map_err(|e| self.io("write", path.clone(), e))
    }

    /// Forgets the init.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn forget_init(&self) -> Result<(), StateError> {
        match fs::remove_file(self.init_path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.io("remove", self.init_path(), e)),
            _ => Ok(()),
        }
    }

    fn io(&self, doing: &'static str, path: PathBuf, source: io::Error) -> StateError {
        StateError::Io { doing, path, source }
    }
}

impl From<File> for Lock {
    /// Of a file that is locked.
    fn from(file: File) -> Self {
        Self { file }
    }
}

impl Lock {
    /// Says in the lock who has it.
    fn name(&self, pid: i32) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&ProcessId::of(pid)?)?)
    }

    /// Leaves no name: whoever finds the lock taken waits a moment and tries again.
    pub(crate) fn anonymous(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// What stands in it.
    pub fn holder(&self) -> Option<ProcessId> {
        let mut text = String::new();
        let mut file = &self.file;
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// Ends everything that runs in the namespaces of this state directory: server, pods, all of it.
/// Returns whether there was anything to end.
///
/// # Errors
/// It may not be ended by the caller, or did not end within 10 seconds.
pub fn killall(state_dir: &Path) -> Result<bool, StateError> {
    let state = StateDir::open(state_dir);
    let Some(record) = state.living_init()? else {
        state.forget_init()?;
        return Ok(false);
    };
    // The kernel ends a pid namespace with its init, and has reaped all of it before the init is
    // gone itself.
    let pid = record.process.pid;
    let killed = record.process.kill(Duration::from_secs(10)).map_err(|source| StateError::Kill { pid, source })?;
    state.forget_init()?;
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);
    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("k3s-rootless-state-{}-{name}", std::process::id()));
            Self(path)
        }
    }
    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_for_its_owner_only() {
        let scratch = Scratch::new("mode");
        let state = StateDir::create(&scratch.0.join("rootless")).unwrap();
        let _lock = state.lock().unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scratch.0.join("rootless")), 0o700);
        assert_eq!(mode(&state.lock_path()), 0o600);
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let scratch = Scratch::new("second");
        let state = StateDir::create(&scratch.0).unwrap();
        let lock = state.lock().unwrap();
        assert_eq!(lock.holder().unwrap().pid, std::process::id() as i32);
        let error = state.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        state.lock().unwrap();
    }

    #[test]
    fn a_record_counts_only_while_its_process_lives() {
        let scratch = Scratch::new("record");
        let state = StateDir::create(&scratch.0).unwrap();
        assert_eq!(state.living_init().unwrap(), None);
        let process = ProcessId::of(std::process::id() as i32).unwrap();
        let copy_up_dirs = vec!["/etc".into()];
        let mut record = InitRecord { process, copy_up_dirs, isolated: false, cgroup: None, warnings: vec![] };
        state.record_init(&record).unwrap();
        assert_eq!(state.living_init().unwrap().as_ref(), Some(&record));
        record.process.start_time += 1;
        state.record_init(&record).unwrap();
        assert_eq!(state.living_init().unwrap(), None);
        assert!(!killall(&scratch.0).unwrap());
        fs::write(scratch.0.join("init.json"), "{ torn").unwrap();
        assert_eq!(state.living_init().unwrap(), None);
    }
}
