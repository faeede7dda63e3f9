//! Kine: etcd's semantics (revisions, ranges, compare-and-swap, watches, compaction) over SQLite.

mod datastore;

pub use datastore::{Datastore, Error, Event, KeyValue, Range, Revision, Watch, WatchBatch};
