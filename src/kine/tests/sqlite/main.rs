//! The datastore in SQLite, seen from outside, on real files.

mod basics;
mod compaction;
mod crash;
#[path = "../events/mod.rs"]
mod events;
mod files;
mod full_disk;
mod leases;
#[path = "../model/mod.rs"]
mod model;
mod model_sqlite;
mod transactions;
mod watches;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use k3s_kine::{
    Datastore, Error, Event, Revision, UNBOUNDED, WatchBatch,
    sqlite::{Options, Sqlite},
};

use self::events::{all, bytes, next, revisions, take};

/// A datastore in a folder that goes with it.
struct Store {
    folder: tempfile::TempDir,
    store: Sqlite,
}

impl Store {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("state.db"), options).unwrap();
        Self { folder, store }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("state.db")
    }

    /// Closes it and opens it again.
    async fn reopen(self, options: Options) -> Self {
        self.store.close().await.unwrap();
        let store = Sqlite::open(&self.path(), options).unwrap();
        Self { folder: self.folder, store }
    }
}

/// The revision found instead of the expected one; 0 for none.
fn conflict<T: std::fmt::Debug>(answer: Result<T, Error>) -> Revision {
    match answer {
        Err(Error::Conflict { current, .. }) => current.map_or(0, |kv| kv.mod_revision),
        other => panic!("{other:?} is no conflict"),
    }
}

fn sql(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}
