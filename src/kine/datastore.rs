//! The datastore as the API server sees it: etcd's semantics as a Rust trait.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Error, Txn, TxnResponse};

/// A position in the one, strictly increasing history of all writes. An empty datastore is at revision 1, as in etcd,
/// so the first write makes revision 2; 0 means "none" or "now", depending on the call. Kubernetes shows it as
/// `resourceVersion`.
pub type Revision = i64;

/// The name of a lease that was granted: positive, chosen by who asked for it, or by the datastore.
pub type LeaseId = i64;

/// As `end` of a range: there is no end, the range has all keys from `start` on. (etcd's own sign for it. As a plain
/// end it would leave no key but the empty one, which can't exist.)
pub const UNBOUNDED: Bytes = Bytes::from_static(b"\0");

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision at which the key was last created.
    pub create_revision: Revision,
    /// The revision of the write that made this value.
    pub mod_revision: Revision,
    /// How often the key was written since it was created: 1 for a key that was only created. What kine wrote has no
    /// such number; there the writes are counted that compaction has left.
    pub version: i64,
    /// What ends the key by itself; 0: nothing. The id of the lease it is attached to, or the time to live in seconds
    /// that it was written with, see [`Datastore::create`].
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

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// The time to live it was granted, in seconds.
    pub ttl: i64,
    /// How long it lives, if it is not kept alive.
    pub remaining: Duration,
}

/// How a datastore is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The newest revision.
    pub revision: Revision,
    /// The history is forgotten up to here: the oldest revision that can be read, 0 if there was no compaction yet.
    pub compacted: Revision,
    /// What it takes on the disk, in bytes.
    pub size: u64,
    /// How much of that holds data; the rest is free for what is written next.
    pub size_in_use: u64,
}

/// The whole datastore at one moment, as a file is that [`sqlite::restore`](crate::sqlite::restore) takes.
#[derive(Debug)]
pub struct Snapshot {
    /// In bytes.
    pub size: u64,
    /// Its bytes in order. An error is the last item; so is a channel that closes early, which shows in the size.
    pub chunks: mpsc::Receiver<Result<Bytes, Error>>,
}

/// Key-value store with revisions, compare-and-swap, transactions, leases and watches: etcd v3. A write that returned
/// `Ok` is on disk. Source: <https://etcd.io/docs/v3.5/learning/api/>.
///
/// Ranges are half-open, `[start, end)`, in the order of bytes; [`UNBOUNDED`] as `end` has all keys from `start` on. The
/// range of one key ends with the key and a zero byte.
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

    /// How many keys there are in `[start, end)` now (`revision` 0) or at `revision`, with the datastore's revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] if `revision` can't be read.
    async fn count(&self, start: Bytes, end: Bytes, revision: Revision) -> Result<(Revision, i64), Error> {
        let range = self.range(start, end, 1, revision).await?;
        Ok((range.revision, range.count))
    }

    /// Compares and then does one thing or the other, all or nothing; see [`Txn`], also for the revisions it takes.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], [`Error::KeyNotFound`], [`Error::EmptyKey`], and what [`Datastore::range`] gives for a
    /// revision that can't be read. Then nothing was done. That a condition does not hold is no error.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error>;

    /// Grants a lease of `ttl` seconds (at least 1 is granted). `id` 0 lets the datastore choose one. When nobody keeps
    /// the lease alive for that time, all keys attached to it are deleted, in one transaction, and it is forgotten. The
    /// time starts anew when the datastore is opened, as it does in etcd with a new leader.
    ///
    /// # Errors
    /// [`Error::LeaseExists`] and [`Error::LeaseTooLong`].
    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, Error>;

    /// Starts the time to live of a lease anew.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Error>;

    /// Ends a lease and deletes the keys attached to it. Returns the datastore's revision after that.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error>;

    /// How a lease is.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Lease, Error>;

    /// The keys attached to a lease, in key order; none if there is no such lease.
    ///
    /// # Errors
    /// Only the backend's own.
    async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Error>;

    /// The leases there are, by id. Times to live of keys ([`Datastore::create`]) are not among them.
    ///
    /// # Errors
    /// Only the backend's own.
    async fn leases(&self) -> Result<Vec<LeaseId>, Error>;

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

    /// How the datastore is.
    ///
    /// # Errors
    /// Only the backend's own.
    async fn status(&self) -> Result<Status, Error>;

    /// A consistent copy of everything, taken while reads and writes go on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the database has its own tools for this.
    async fn snapshot(&self) -> Result<Snapshot, Error> {
        Err(Error::Unsupported { what: "snapshot" })
    }

    /// Gives space that nothing needs back to the disk.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the database sees to it by itself.
    async fn defragment(&self) -> Result<(), Error> {
        Err(Error::Unsupported { what: "defragment" })
    }
}
