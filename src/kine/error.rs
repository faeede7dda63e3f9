//! Why a datastore refuses.

use crate::{KeyValue, LeaseId, Revision};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Create found the key, or update/delete found another revision than expected. `current` is what is there now:
    /// `None` when the key does not exist.
    #[error("{key}: the key is at another revision than expected")]
    Conflict { key: String, current: Option<Box<KeyValue>>, revision: Revision },
    /// A write has no key.
    #[error("key is not provided")]
    EmptyKey,
    /// The database can't hold such a key.
    #[error("{key:?} can't be a key in datastore {server}: {why}")]
    InvalidKey { key: String, server: String, why: &'static str },
    /// A put that keeps the value or lease of its key found no key.
    #[error("{key}: there is no such key whose value or lease could be kept")]
    KeyNotFound { key: String },
    /// No such lease was granted, or it has ended.
    #[error("requested lease {id:x} not found")]
    LeaseNotFound { id: LeaseId },
    /// A lease with the id that was asked for is there already.
    #[error("lease {id:x} already exists")]
    LeaseExists { id: LeaseId },
    /// The time to live that was asked for is more than ten million hours.
    #[error("a lease of {ttl} seconds is too long")]
    LeaseTooLong { ttl: i64 },
    /// The revision asked for is older than the last compaction.
    #[error("required revision {asked} has been compacted (oldest is {compacted})")]
    Compacted { asked: Revision, compacted: Revision },
    /// The revision asked for has not happened yet.
    #[error("required revision {asked} is a future revision (newest is {current})")]
    Future { asked: Revision, current: Revision },
    /// The disk is full; reads go on, and writes will succeed again when there is space.
    #[error("cannot write to {path}: no space left on the device")]
    NoSpace { path: String },
    /// Another process has the datastore open.
    #[error("{path} is in use by another process: {detail}")]
    InUse { path: String, detail: String },
    /// The file is damaged.
    #[error("{path} is damaged: {detail}")]
    Corrupt { path: String, detail: String },
    /// This kind of datastore can't do that.
    #[error("{what}: not with this datastore; use the database's own tools")]
    Unsupported { what: &'static str },
    /// The database server can't be reached, or does not answer; tried until the request's time was up. If it was a
    /// write, and the connection broke while it was committed, it may have been done.
    #[error("datastore {server} is not available: {detail}")]
    Unavailable { server: String, detail: String },
    /// The database server does not let us in.
    #[error("datastore {server} refused the login: {detail}")]
    Denied { server: String, detail: String },
    /// The database is not one of kine.
    #[error("datastore {server} has tables that are not kine's: {detail}")]
    Schema { server: String, detail: String },
    /// The datastore is stopping or has stopped.
    #[error("the datastore is closed")]
    Closed,
    /// Anything else the backend says.
    #[error("datastore: {doing}: {detail}")]
    Backend { doing: &'static str, detail: String },
}
