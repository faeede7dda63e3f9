//! The datastore in one SQLite file.
//!
//! One connection writes (`writer`, and `inbox` for who uses it), some read (`reader`, `query`), and watches are served
//! from what the writer has just committed (`watch`). The table is kine's (`schema`): an existing `state.db` opens as it is, and kine opens
//! what this writes.
//!
//! Nothing polls, and there is no path for starting after a crash: each open is one.

mod backup;
mod checkpoint;
mod compact;
mod connection;
mod failure;
mod foreign;
mod grant;
mod history;
mod immediate;
mod inbox;
mod lease;
mod list;
mod lock;
mod name;
mod op;
mod publisher;
mod query;
mod reader;
mod schema;
mod transaction;
mod txn;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc as channel, oneshot};

pub use self::backup::restore;
use self::{
    checkpoint::Checkpoint,
    compact::Compactor,
    failure::Failure,
    grant::Grants,
    inbox::{Requests, Submitted},
    lease::Leases,
    lock::Lock,
    op::{Op, Outcome},
    publisher::Publisher,
    reader::Readers,
    writer::{Progress, Request, Writer},
};
use crate::{
    Datastore, Error, KeyValue, Lease, LeaseId, Metrics, Range, Revision, Snapshot, Status, Txn, TxnResponse, Watch,
    tasks::Tasks,
    watch::{self, History, Hub, Interval, Joined},
};

/// How a datastore behaves; the defaults are kine's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often the history is compacted, up to where it stood one interval ago; `None`: only when asked.
    pub compact_interval: Option<Duration>,
    /// How many of the newest revisions automatic compaction never touches.
    pub compact_retain: i64,
    /// How many reads run beside each other; each takes a connection with a page cache of 512 KiB.
    pub readers: u32,
    /// How many batches a watch may be behind before it is dropped.
    pub watch_buffer: usize,
    /// How often quiet watches are told where they stand.
    pub progress_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact_interval: Some(Duration::from_secs(300)),
            compact_retain: 1000,
            readers: 4,
            watch_buffer: 1024,
            progress_interval: Duration::from_secs(5),
        }
    }
}

/// A [`Datastore`] in an SQLite file. Call [`Sqlite::close`] at the end; if the process dies instead, nothing that was
/// acknowledged is lost.
pub struct Sqlite {
    requests: Requests,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    grants: Arc<Grants>,
    path: PathBuf,
    metrics: Metrics,
    /// Watches that are being brought up to date.
    tasks: Tasks,
    watch_buffer: usize,
}

impl Sqlite {
    /// Opens the datastore in the file `path`, or makes it: mode 0600, in a folder that is made with mode 0700 if it is
    /// not there. Must be called within a tokio runtime. Blocks for some milliseconds, longer for the first opening of a large file that kine made, which is
    /// rewritten once so that it can shrink.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process (or this one) has it open, [`Error::Corrupt`] if it is damaged,
    /// [`Error::NoSpace`] if it can't be made, [`Error::Schema`] if its table is not kine's, [`Error::Backend`] for whatever else the file system says.
    pub fn open(path: &Path, options: Options) -> Result<Sqlite, Error> {
        connection::make_file(path)?;
        let (lock, unclean) = Lock::take(path)?;
        let failed = |error: rusqlite::Error| Failure::new(path, "open the datastore", &error);
        if let Some(folder) = path.parent()
            && let Err(error) = backup::clear(folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove unfinished snapshots");
        }
        let mut conn = connection::writer(path).map_err(failed)?;
        if unclean {
            schema::check(&conn, path)?;
        }
        foreign::refuse(&conn, path)?;
        schema::drop_unused(&conn).map_err(failed)?;
        schema::let_shrink(&conn, path);
        let position = schema::prepare(&mut conn).map_err(failed)?;
        let leases = Leases::open(&conn).map_err(failed)?;
        connection::lengthen_wal(path)?;
        let grants = Arc::new(Grants::open(&conn).map_err(failed)?);
        tracing::info!(path = %path.display(), revision = position.current, unclean, "opened the datastore");

        let hub = Arc::new(Hub::new(position));
        let interval = options.progress_interval;
        let metrics = Metrics::of_file();
        let writer = Writer {
            conn,
            path: path.to_owned(),
            lock,
            hub: Arc::clone(&hub),
            position,
            compactor: Compactor::new(options.compact_interval, options.compact_retain, position.current),
            leases,
            grants: Arc::clone(&grants),
            checkpoint: Checkpoint::start(path)?,
            publisher: Publisher::start(Arc::clone(&hub)),
            progress: Progress { interval, due: Instant::now() + interval },
            failing: false,
            metrics: metrics.clone(),
            pace: Duration::ZERO,
            synced: true,
        };
        let requests =
            Requests::start(writer).map_err(|error| Failure::io(path, "start the datastore's writer", &error))?;
        Ok(Sqlite {
            requests,
            readers: Arc::new(Readers::new(path.to_owned(), options.readers.max(1), metrics.clone())),
            hub,
            grants,
            path: path.to_owned(),
            metrics,
            tasks: Tasks::default(),
            watch_buffer: options.watch_buffer.max(1),
        })
    }

    /// Finishes what was asked before, ends all watches, empties the WAL and closes the file. Calls after it give
    /// [`Error::Closed`]; a second call does nothing.
    ///
    /// # Errors
    /// None so far: what fails here is logged, since everything acknowledged is on disk already.
    pub async fn close(&self) -> Result<(), Error> {
        self.tasks.close().await;
        // Before the writer, whose connection must be the last, to leave one file.
        self.readers.close().await;
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).is_ok() {
            // No answer: another close is under way, or the writer is gone.
            let _ = closed.await;
        }
        Ok(())
    }

    /// Saves a consistent copy of everything in the file `to` (mode 0600, in a folder that is there), while reads and
    /// writes go on. A file that is there is replaced when the copy is whole and on disk. [`restore`] is the way back.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and [`Error::Backend`] for what the file system says.
    pub async fn save(&self, to: &Path) -> Result<(), Error> {
        self.tasks.open()?;
        let (path, to) = (self.path.clone(), to.to_owned());
        let save = move || {
            let failed = |error: std::io::Error| Failure::io(&to, "save a snapshot", &error);
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let copy = backup::copy(&path, folder)?;
            copy.as_file().sync_all().map_err(failed)?;
            copy.persist(&to).map_err(|error| failed(error.error))?;
            std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            Ok(())
        };
        unless_panicked(tokio::task::spawn_blocking(save).await)
    }

    /// What it counts, to be registered with what shows metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn write(&self, op: Op) -> Result<Outcome, Error> {
        match self.requests.write(op)? {
            Submitted::Done(done) => done,
            Submitted::Waits(answer) => answer.await.unwrap_or(Err(Error::Closed)),
        }
    }

    /// Writes one key.
    async fn write_key(&self, key: &Bytes, op: impl FnOnce(Bytes) -> Op) -> Result<Revision, Error> {
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        self.write(op(key.clone())).await?.revision()
    }
}

#[async_trait]
impl Datastore for Sqlite {
    async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<Revision, Error> {
        self.write_key(&key, |key| Op::Create { key, value, lease }).await
    }

    async fn update(&self, key: Bytes, expected: Revision, value: Bytes, lease: i64) -> Result<Revision, Error> {
        self.write_key(&key, |key| Op::Update { key, expected, value, lease }).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, Error> {
        self.write_key(&key, |key| Op::Delete { key, expected }).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        if txn.is_read_only() {
            let (position, response) = self.readers.read(move |conn, position| txn::read(conn, position, &txn)).await?;
            self.hub.reached(position.current).await?;
            return Ok(response);
        }
        match self.write(Op::Txn(txn)).await? {
            Outcome::Txn { response, .. } => Ok(response),
            other => Err(unexpected("execute a transaction", other)),
        }
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, Error> {
        match self.write(Op::Grant { id, ttl }).await? {
            Outcome::Granted { id, .. } => self.grants.get(id),
            other => Err(unexpected("grant a lease", other)),
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        self.tasks.open()?;
        self.grants.keep_alive(id)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        self.write(Op::Revoke { id }).await?.revision()
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Lease, Error> {
        self.tasks.open()?;
        self.grants.get(id)
    }

    async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        let (_, keys) = self.readers.read(move |conn, _| Ok(query::attached(conn, id)?)).await?;
        Ok(keys)
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.tasks.open()?;
        Ok(self.grants.ids())
    }

    async fn get(&self, key: Bytes, revision: Revision) -> Result<(Revision, Option<KeyValue>), Error> {
        let get = move |conn: &_, position| query::get(conn, position, &key, revision);
        let (position, kv) = self.readers.read(get).await?;
        self.hub.reached(position.current).await?;
        Ok((position.current, kv))
    }

    async fn range(&self, start: Bytes, end: Bytes, limit: i64, revision: Revision) -> Result<Range, Error> {
        let readers = Arc::clone(&self.readers);
        let range = move |conn: &_, position| match limit {
            ..=0 => list::list(&readers, conn, position, (&start, &end), revision),
            limit => query::range(conn, position, &start, &end, limit, revision),
        };
        let (position, range) = self.readers.read(range).await?;
        self.hub.reached(position.current).await?;
        Ok(range)
    }

    async fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, Error> {
        self.hub.check(after)?;
        let (sender, watch) = channel::channel(self.watch_buffer);
        let interval = Interval { start, end };
        if let Joined::Behind = self.hub.join(&interval, &sender, after) {
            let history: Arc<dyn History> = Arc::new(Arc::clone(&self.readers));
            self.tasks.spawn(watch::catch_up(Arc::clone(&self.hub), history, interval, sender, after));
        }
        Ok(watch)
    }

    async fn current_revision(&self) -> Result<Revision, Error> {
        self.tasks.open()?;
        Ok(self.hub.current())
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.tasks.open()?;
        self.hub.progress();
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let current = self.hub.current();
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        let (reply, answer) = oneshot::channel();
        let request = compact::Request { revision, reply };
        self.requests.send(Request::Compact(request))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    async fn status(&self) -> Result<Status, Error> {
        let (position, (pages, free, page)) = self.readers.read(|conn, _| Ok(schema::pages(conn)?)).await?;
        self.hub.reached(position.current).await?;
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        let wal = match std::fs::metadata(&wal) {
            Ok(wal) => wal.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Failure::io(Path::new(&wal), "look at the WAL", &error).into()),
        };
        Ok(Status {
            revision: position.current,
            compacted: position.compacted,
            size: pages * page + wal,
            size_in_use: (pages - free) * page,
        })
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.tasks.open()?;
        let path = self.path.clone();
        let snapshot = move || Ok(backup::stream(&path)?);
        unless_panicked(tokio::task::spawn_blocking(snapshot).await)
    }

    async fn defragment(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Defragment(reply))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

fn unless_panicked<T>(task: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    task.unwrap_or_else(|error| Err(Error::Backend { doing: "make a snapshot", detail: error.to_string() }))
}

/// The writer refused, or gave an answer that is to another question.
fn unexpected(doing: &'static str, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Refused(error) => error,
        other => Error::Backend { doing, detail: format!("the writer answered {other:?}") },
    }
}
