//! Why a command of `k3s oci` fails, in the words that callers of runc look for.

use std::io;
use std::path::Path;

use crate::executor::{self, Reason};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A container of that name is there already.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// None is.
    #[error("container {0:?} does not exist")]
    Unknown(String),
    /// It could not be a folder's name, or could be that of another folder.
    #[error("invalid container ID {0:?}: use letters, digits and any of _ + - . after the first")]
    BadId(String),
    /// `start` of a container that has been started.
    #[error("cannot start an already running container")]
    Running,
    /// `start` or `exec` after its end.
    #[error("cannot {doing} a container that has stopped")]
    Stopped { doing: &'static str },
    /// `start` before `create` has come to its end.
    #[error("cannot {doing} a container that is being created")]
    Creating { doing: &'static str },
    /// `kill` of a container without a process.
    #[error("container not running")]
    NotRunning,
    /// `delete` without `--force`.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: &'static str },
    /// The configuration asks for what is not there or makes no sense.
    #[error("config.json: {0}")]
    Config(String),
    /// Others live in the cgroup that the configuration names.
    #[error("container's cgroup is not empty: {0} process(es) found")]
    CgroupInUse(usize),
    /// A hook failed.
    #[error("error running {kind} hook #{number}: {reason}")]
    Hook { kind: &'static str, number: usize, reason: String },
    /// The container's process could not be made, or not become the command.
    #[error("unable to start container process: {0}")]
    Process(String),
    /// A system call failed.
    #[error("{doing}: {}", Reason(source))]
    Io { doing: String, source: io::Error },
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// Says what was being done when a system call failed.
pub(super) trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| Error::Io { doing: doing.into(), source: error.into() })
    }
}

impl From<executor::Error> for Error {
    fn from(error: executor::Error) -> Self {
        Self::Process(error.to_string())
    }
}

impl Error {
    pub(super) fn config(detail: impl Into<String>) -> Self {
        Self::Config(detail.into())
    }

    pub(super) fn damaged(path: &Path, error: &serde_json::Error) -> Self {
        Self::Config(format!("{}: {error}", path.display()))
    }
}
