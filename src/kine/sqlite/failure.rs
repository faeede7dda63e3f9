//! What SQLite's errors mean to the caller.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::Error;

/// A failure that several callers must be told of: [`Error`] itself can't be cloned.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    NoSpace { path: PathBuf },
    InUse { path: PathBuf, detail: String },
    Corrupt { path: PathBuf, detail: String },
    Backend { doing: &'static str, detail: String },
}

impl Failure {
    /// What `error` means when it came up in `doing` something with the database `path`.
    pub(super) fn new(path: &Path, doing: &'static str, error: &rusqlite::Error) -> Self {
        let code = match error {
            rusqlite::Error::SqliteFailure(code, _) => *code,
            _ => return Failure::Backend { doing, detail: format!("{}: {error}", path.display()) },
        };
        match (code.code, code.extended_code) {
            // The shared memory beside the WAL can't grow: ENOSPC under another name.
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Failure::NoSpace { path: path.to_owned() },
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Failure::corrupt(path, &error.to_string()),
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Failure::InUse {
                path: path.to_owned(),
                detail: format!("{doing}: {error}; stop the other program that has the file open"),
            },
            _ => Failure::Backend { doing, detail: format!("{}: {error}", path.display()) },
        }
    }

    /// A damaged file, with the way out.
    pub(super) fn corrupt(path: &Path, found: &str) -> Self {
        let detail = format!(
            "{found}; stop k3s and put a snapshot in its place: k3s kine --restore SNAPSHOT --endpoint sqlite://{0}; or \
             save what can still be read: sqlite3 {0} .recover | sqlite3 {0}.recovered",
            path.display()
        );
        Failure::Corrupt { path: path.to_owned(), detail }
    }

    /// An operation on a file or folder that failed.
    pub(super) fn io(path: &Path, doing: &'static str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Failure::NoSpace { path: path.to_owned() }
            }
            _ => Failure::Backend { doing, detail: format!("{}: {error}", path.display()) },
        }
    }
}

/// SQLite's number of an error, for metrics; "other" for what is not SQLite's.
pub(super) fn code(error: &rusqlite::Error) -> String {
    error.sqlite_error().map_or_else(|| "other".to_owned(), |code| code.extended_code.to_string())
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace { path } => Error::NoSpace { path: path.display().to_string() },
            Failure::InUse { path, detail } => Error::InUse { path: path.display().to_string(), detail },
            Failure::Corrupt { path, detail } => Error::Corrupt { path: path.display().to_string(), detail },
            Failure::Backend { doing, detail } => Error::Backend { doing, detail },
        }
    }
}
