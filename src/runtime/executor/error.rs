//! Why a process could not be started, in the words of runc where users know them.

use std::io;

/// What went wrong between `clone3` and `execve`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call failed.
    #[error("{doing}: {}", Reason(source))]
    Step { doing: String, source: io::Error },
    /// The configuration makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A bare command name that is in no directory of `$PATH`.
    #[error("exec: {command:?}: executable file not found in $PATH")]
    NotInPath { command: String },
    /// A command that can't be run.
    #[error("exec: {command:?}: {reason}")]
    Command { command: String, reason: String },
}

impl Error {
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::Invalid(detail.into())
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Context<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| Error::Step { doing: doing.into(), source: error.into() })
    }
}

/// A system call's error as C and Go print it: `no such file or directory`, without Rust's `(os error 2)`.
pub(crate) struct Reason<'a>(pub &'a io::Error);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(code) => {
                let text = nix::errno::Errno::from_raw(code).desc();
                let mut chars = text.chars();
                match chars.next() {
                    Some(first) => write!(f, "{}{}", first.to_ascii_lowercase(), chars.as_str()),
                    None => Ok(()),
                }
            }
            None => self.0.fmt(f),
        }
    }
}
