//! The datastore as the API server sees it: etcd's semantics as a Rust trait.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// A position in the one, strictly increasing history of all writes. An empty datastore is at revision 1, as in etcd,
/// so the first write makes revision 2; 0 means "none" or "now", depending on the call. Kubernetes shows it as
/// `resourceVersion`.
pub type Revision = i64;

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision at which the key was last created.
    pub create_revision: Revision,
    /// The revision of the write that made this value.
    pub mod_revision: Revision,
    /// The time to live this value was written with, in seconds; 0 for none. See [`Datastore::create`].
    pub lease: i64,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key was created (`previous` is `None`) or changed.
    Put { kv: KeyValue, previous: Option<KeyValue> },
    /// The key was deleted at `revision`.
    Delete { revision: Revision, previous: KeyValue },
}

impl Event {
    /// The revision at which it happened.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put { kv, .. } => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        }
    }

    /// The key it happened to.
    pub fn key(&self) -> &Bytes {
        match self {
            Event::Put { kv, .. } => &kv.key,
            Event::Delete { previous, .. } => &previous.key,
        }
    }
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchBatch {
    /// Events in revision order, each once. Never empty. All events of one revision come in one batch.
    Events(Vec<Event>),
    /// Every event up to and including this revision has been delivered. Each watch gets one within some seconds of
    /// its start, then again only when the datastore's revision has moved on without an event for this watch.
    Progress(Revision),
}

/// A stream of changes. Dropping it ends the watch. A channel that closes without being dropped means the watch fell
/// behind or the datastore stopped: watch again from the last revision seen.
pub type Watch = mpsc::Receiver<WatchBatch>;

/// The answer to a range request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The datastore's revision when the range was read.
    pub revision: Revision,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// There are more keys than `limit` let through.
    pub more: bool,
    /// How many keys there are in the whole range, whatever the limit.
    pub count: i64,
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Create found the key, or update/delete found another revision than expected. `current` is what is there now:
    /// `None` when the key does not exist.
    #[error("{key}: the key is at another revision than expected")]
    Conflict { key: String, current: Option<Box<KeyValue>>, revision: Revision },
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
    /// The datastore is stopping or has stopped.
    #[error("the datastore is closed")]
    Closed,
    /// Anything else the backend says.
    #[error("datastore: {doing}: {detail}")]
    Backend { doing: &'static str, detail: String },
}

/// Key-value store with revisions, compare-and-swap and watches: the subset of etcd v3 that Kubernetes needs. A write
/// that returned `Ok` is on disk. Source: <https://etcd.io/docs/v3.5/learning/api/>.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Creates `key`. Returns the revision of the write.
    ///
    /// `lease` is what it is in kine, not an id but a time to live: the key is deleted, by an ordinary deletion with a
    /// revision and a watch event, `lease` seconds after this write, unless it is written again before. The time goes on
    /// while the datastore is closed; a key whose time passed meanwhile is deleted soon after the next open. 0 or less:
    /// the key stays.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key exists.
    async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<Revision, Error>;

    /// Replaces the value of `key`, if it is still at `expected`. Returns the revision of the write. The time to live
    /// starts anew with `lease` seconds, or ends if `lease` is 0: see [`Datastore::create`].
    ///
    /// # Errors
    /// [`Error::Conflict`] with the current state otherwise.
    async fn update(&self, key: Bytes, expected: Revision, value: Bytes, lease: i64) -> Result<Revision, Error>;

    /// Deletes `key`, if it is still at `expected`. Returns the revision of the deletion.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the current state otherwise.
    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, Error>;

    /// The key now (`revision` 0) or as it was at `revision`, with the datastore's current revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] if `revision` can't be read.
    async fn get(&self, key: Bytes, revision: Revision) -> Result<(Revision, Option<KeyValue>), Error>;

    /// Keys in `[start, end)` now (`revision` 0) or at `revision`; at most `limit` (0: all).
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] if `revision` can't be read.
    async fn range(&self, start: Bytes, end: Bytes, limit: i64, revision: Revision) -> Result<Range, Error>;

    /// All events on keys in `[start, end)` after revision `after` (so `after + 1` on), then the new ones as they
    /// happen. Progress batches follow events at least every few seconds when the range is quiet. `after` 0 has no
    /// special meaning: it asks for every event since the beginning.
    ///
    /// # Errors
    /// [`Error::Compacted`] if events after `after` are already gone, [`Error::Future`] if `after` is not yet reached.
    async fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, Error>;

    /// The newest revision that has been written.
    async fn current_revision(&self) -> Result<Revision, Error>;

    /// Has every watch that is behind the current revision only because its range was quiet get a
    /// [`WatchBatch::Progress`] now, rather than within some seconds. A watch cache that must answer a consistent read
    /// calls this, then waits until its watch has reached [`Datastore::current_revision`] (etcd: `RequestProgress`).
    async fn request_progress(&self) -> Result<(), Error>;

    /// Forgets superseded values up to `revision`; what is current stays readable, and so does everything at `revision`
    /// and later. Does nothing if `revision` is compacted already.
    ///
    /// # Errors
    /// [`Error::Future`] if `revision` has not happened yet.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
}
