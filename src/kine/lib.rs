//! Kine: etcd's semantics (revisions, ranges, compare-and-swap, transactions, watches, leases, compaction) over SQLite,
//! PostgreSQL, MySQL and MariaDB, or an etcd.
//!
//! It has two faces: [`Datastore`] for the API server in the same process, and etcd v3 over gRPC ([`grpc`]) for
//! everything else.
//!
//! [`Datastore`] is the contract the API server is written against. It is kept by
//!
//! - [`sqlite::Sqlite`] in one file, for one server,
//! - [`sql::Sql`] in a database server, for several ([`sql::postgres`], [`sql::mysql`]),
//! - [`etcd::Etcd`] in an etcd cluster, for several as well.
//!
//! [`endpoint::open`] opens whichever `--datastore-endpoint` names. Tables are those of kine, so the `state.db` or the
//! database of an existing k3s server opens as it is. All show what they count by kine's names ([`Metrics`]).
//!
//!
//! ```
//! use k3s_kine::{Datastore, sqlite::{Options, Sqlite}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), k3s_kine::Error> {
//! # let folder = std::env::temp_dir().join(format!("k3s-kine-doc-{}", std::process::id()));
//! let store = Sqlite::open(&folder.join("state.db"), Options::default())?;
//! let created = store.create("/registry/pods/default/web".into(), "…".into(), 0).await?;
//! let (now, pod) = store.get("/registry/pods/default/web".into(), 0).await?;
//! assert_eq!(now, created);
//! assert_eq!(pod.map(|kv| kv.mod_revision), Some(created));
//! store.close().await?;
//! # std::fs::remove_dir_all(&folder).ok();
//! # Ok(()) }
//! ```

mod backoff;
mod datastore;
pub mod endpoint;
mod error;
pub mod etcd;
pub mod grpc;
mod metrics;
mod name;
mod op;
pub mod sql;
pub mod sqlite;
mod table;
mod tasks;
pub mod tls;
mod transaction;
mod watch;

pub use datastore::{
    Datastore, Event, KeyValue, Lease, LeaseId, Range, Revision, Snapshot, Status, UNBOUNDED, Watch, WatchBatch,
};
pub use error::Error;
pub use metrics::Metrics;
pub use transaction::{Compare, Operator, Target, Txn, TxnOp, TxnResponse, TxnResult};
