//! The datastore in a database server: PostgreSQL, or MySQL and MariaDB. Several servers of a cluster may use one
//! database.
//!
//! It is a log of revisions in kine's table, so a database that kine made opens as it is, and kine opens what this
//! writes. One task writes (`writer`), a few connections read (`pool`, `query`), one task follows the log (`follow`) and
//! tells the watches what came from anywhere, and two keep house (`compact`, `lease`). What differs between database
//! servers is in their drivers ([`postgres`], [`mysql`]).
//!
//! When the server is away, requests wait for it ([`Options::request_timeout`]) and then fail; watches stay open and go
//! on where they were.

mod compact;
mod driver;
mod failure;
mod follow;
mod lease;
pub mod mysql;
mod op;
mod pool;
pub mod postgres;
mod query;
mod statement;
mod view;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use self::{
    compact::Compactor,
    driver::Driver,
    follow::Follower,
    lease::Ends,
    pool::{Limits, Pool},
    query::RangeQuery,
    statement::Statement,
    writer::{Write, Writer},
};
use crate::{
    Datastore, Error, KeyValue, Lease, LeaseId, Metrics, Range, Revision, Status, Txn, TxnResponse, Watch,
    backoff::Backoff,
    op::{Op, Outcome},
    tasks::Tasks,
    watch::{self, History, Hub, Interval, Joined, Position},
};

/// Writes that wait at most; more wait before they are taken in.
const QUEUE: usize = 4096;

/// How a datastore behaves; the defaults are kine's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often the history is compacted, up to where it stood one interval ago; `None`: only when asked.
    pub compact_interval: Option<Duration>,
    /// How many of the newest revisions automatic compaction never touches.
    pub compact_retain: i64,
    /// How many batches a watch may be behind before it is dropped.
    pub watch_buffer: usize,
    /// How often quiet watches are told where they stand.
    pub progress_interval: Duration,
    /// Connections at once; 0: as many as are of use. At least three are made.
    pub max_open_connections: u32,
    /// Connections kept although nothing uses them; 0: two; less: none.
    pub max_idle_connections: i64,
    /// The age at which a connection is not used again.
    pub connection_max_lifetime: Option<Duration>,
    /// How long a request waits for a server that is away.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact_interval: Some(Duration::from_secs(300)),
            compact_retain: 1000,
            watch_buffer: 1024,
            progress_interval: Duration::from_secs(5),
            max_open_connections: 0,
            max_idle_connections: 0,
            connection_max_lifetime: None,
            request_timeout: Duration::from_secs(20),
        }
    }
}

/// A [`Datastore`] in a database server.
pub struct Sql {
    pool: Arc<Pool>,
    hub: Arc<Hub>,
    writes: mpsc::Sender<Write>,
    /// Wakes who follows the log.
    written: Arc<Notify>,
    tasks: Tasks,
    watch_buffer: usize,
}

impl Sql {
    async fn open(driver: Arc<dyn Driver>, options: Options) -> Result<Self, Error> {
        let doing = "open the datastore";
        // A server that starts together with this one may take longer.
        let mut backoff = Backoff::new(options.request_timeout);
        while let Err(failure) = driver.prepare().await {
            if !failure.passes() || !backoff.pause().await {
                return Err(failure.to_error(driver.server(), doing));
            }
            tracing::debug!(server = driver.server(), error = %failure, "waiting for the database server");
        }
        let idle = if options.max_idle_connections == 0 { 2 } else { options.max_idle_connections };
        let limits = Limits {
            open: options.max_open_connections,
            idle: usize::try_from(idle).unwrap_or(0),
            lifetime: options.connection_max_lifetime,
        };
        let patience = options.request_timeout;
        let pool = Arc::new(Pool::new(Arc::clone(&driver), limits, patience));
        let position = pool.position().await?;
        tracing::info!(server = driver.server(), revision = position.current, "opened the datastore");

        let hub = Arc::new(Hub::new(position));
        let written = Arc::new(Notify::new());
        let (writes, requests) = mpsc::channel(QUEUE);
        let store = Self {
            pool: Arc::clone(&pool),
            hub: Arc::clone(&hub),
            writes: writes.clone(),
            written: Arc::clone(&written),
            tasks: Tasks::default(),
            watch_buffer: options.watch_buffer.max(1),
        };
        store.tasks.spawn(
            Writer {
                driver,
                hub: Arc::clone(&hub),
                written: Arc::clone(&written),
                requests,
                patience,
                session: None,
                used: Instant::now(),
                failing: false,
            }
            .run(),
        );
        let progress_interval = options.progress_interval;
        store
            .tasks
            .spawn(Follower { pool: Arc::clone(&pool), hub: Arc::clone(&hub), written, progress_interval }.run());
        let ends = Ends { pool: Arc::clone(&pool), writes };
        ends.take_up().await?;
        store.tasks.spawn(ends.run());
        if let Some(interval) = options.compact_interval {
            store.tasks.spawn(Compactor { pool, hub, interval, retain: options.compact_retain }.run());
        }
        Ok(store)
    }

    /// Ends all watches and connections. What was not acknowledged by then may or may not have been done. Calls after
    /// it give [`Error::Closed`]; a second call does nothing.
    ///
    /// # Errors
    /// None so far.
    pub async fn close(&self) -> Result<(), Error> {
        self.tasks.close().await;
        self.pool.close();
        self.hub.close();
        Ok(())
    }

    /// What it counts, to be registered with what shows metrics.
    pub fn metrics(&self) -> &Metrics {
        self.pool.driver().metrics()
    }

    /// Has it written, and waits until the watches of this server are told.
    async fn write(&self, op: Op) -> Result<Outcome, Error> {
        self.tasks.open()?;
        op::check(self.pool.driver(), &op)?;
        let outcome = ask(&self.writes, self.pool.patience, op).await?;
        if let Some(last) = outcome.events().last() {
            self.told(last.revision()).await?;
        }
        Ok(outcome)
    }

    /// Waits until `revision`, which the database has, is known to all other calls.
    async fn told(&self, revision: Revision) -> Result<(), Error> {
        if self.hub.current() < revision {
            self.written.notify_one();
            let late = |_| Error::Unavailable {
                server: self.pool.driver().server().to_owned(),
                detail: format!("revision {revision} did not come through in time"),
            };
            tokio::time::timeout(self.pool.patience, self.hub.reached(revision)).await.map_err(late)??;
        }
        Ok(())
    }

    async fn done<T>(&self, (position, answer): (Position, T)) -> Result<T, Error> {
        self.told(position.current).await?;
        Ok(answer)
    }

    /// A lease for which `condition` holds, after `update`.
    async fn lease(
        &self,
        doing: &'static str,
        id: LeaseId,
        condition: &str,
        update: Option<String>,
    ) -> Result<Lease, Error> {
        self.tasks.open()?;
        let now = self.pool.driver().now();
        let select = format!("SELECT ttl, expires - {now} FROM kine_lease_grant WHERE id = {id}{condition}");
        let statements: Vec<_> = update.into_iter().chain([select]).map(Statement::plain).collect();
        let answers = self.pool.run(doing, &statements).await?;
        let row = answers.last().and_then(|rows| rows.first()).ok_or(Error::LeaseNotFound { id })?;
        let read = || Ok((row.int(0)?, row.int(1)?));
        let (ttl, left) = read().map_err(|failure: failure::Failure| self.pool.error(failure.into()))?;
        Ok(Lease { id, ttl, remaining: Duration::from_millis(u64::try_from(left).unwrap_or(0)) })
    }
}

/// Has the writer do it.
async fn ask(writes: &mpsc::Sender<Write>, patience: Duration, op: Op) -> Result<Outcome, Error> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        writes.send(Write { op, reply }).await.map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    };
    // The writer notices when nobody waits any more; some of its own errors come at the last moment.
    tokio::time::timeout(patience + Duration::from_secs(1), asked).await.unwrap_or_else(|_| {
        let detail = format!("the write was not answered within {patience:?}; it may have been done");
        Err(Error::Unavailable { server: "database".into(), detail })
    })
}

#[async_trait]
impl Datastore for Sql {
    async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<Revision, Error> {
        self.write(Op::Create { key, value, lease }).await?.revision()
    }

    async fn update(&self, key: Bytes, expected: Revision, value: Bytes, lease: i64) -> Result<Revision, Error> {
        self.write(Op::Update { key, expected, value, lease }).await?.revision()
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, Error> {
        self.write(Op::Delete { key, expected }).await?.revision()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        if txn.is_read_only() {
            self.tasks.open()?;
            return self.done(self.pool.read_txn(&txn).await?).await;
        }
        match self.write(Op::Txn(txn)).await? {
            Outcome::Txn { response, .. } => {
                self.told(response.revision).await?;
                Ok(response)
            }
            other => Err(unexpected("execute a transaction", other)),
        }
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, Error> {
        loop {
            let chosen = if id == 0 { rand::random_range(1..=LeaseId::MAX) } else { id };
            match self.write(Op::Grant { id: chosen, ttl }).await? {
                Outcome::Granted { id, ttl } => {
                    return Ok(Lease { id, ttl, remaining: Duration::from_secs(ttl.unsigned_abs()) });
                }
                // The dice fell on one that is there.
                Outcome::Refused(Error::LeaseExists { .. }) if id == 0 => {}
                other => return Err(unexpected("grant a lease", other)),
            }
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        let now = self.pool.driver().now();
        // One whose time has passed is about to be revoked: nobody may be told that it lives on.
        let alive = format!(" AND expires > {now}");
        let update = format!("UPDATE kine_lease_grant SET expires = {now} + ttl * 1000 WHERE id = {id}{alive}");
        self.lease("keep a lease alive", id, &alive, Some(update)).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        self.write(Op::Revoke { id }).await?.revision()
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Lease, Error> {
        self.lease("look at a lease", id, "", None).await
    }

    async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        self.pool.attached(id).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let list = [Statement::plain("SELECT id FROM kine_lease_grant ORDER BY id")];
        let answers = self.pool.run("list leases", &list).await?;
        let ids = answers[0].iter().map(|row| row.int(0)).collect::<Result<_, _>>();
        ids.map_err(|failure| self.pool.error(failure.into()))
    }

    async fn get(&self, key: Bytes, revision: Revision) -> Result<(Revision, Option<KeyValue>), Error> {
        let (position, kv) = self.pool.get(&key, revision).await?;
        self.done((position, (position.current, kv))).await
    }

    async fn range(&self, start: Bytes, end: Bytes, limit: i64, revision: Revision) -> Result<Range, Error> {
        self.done(self.pool.range(RangeQuery { start, end, limit, revision }).await?).await
    }

    async fn count(&self, start: Bytes, end: Bytes, revision: Revision) -> Result<(Revision, i64), Error> {
        let (position, count) = self.pool.count(&start, &end, revision).await?;
        self.done((position, (position.current, count))).await
    }

    async fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, Error> {
        if after > self.hub.current() {
            // Another server may have told of it.
            self.current_revision().await?;
        }
        self.hub.check(after)?;
        let (sender, watch) = mpsc::channel(self.watch_buffer);
        let interval = Interval { start, end };
        if let Joined::Behind = self.hub.join(&interval, &sender, after) {
            let history: Arc<dyn History> = Arc::clone(&self.pool) as _;
            self.tasks.spawn(watch::catch_up(Arc::clone(&self.hub), history, interval, sender, after));
        }
        Ok(watch)
    }

    async fn current_revision(&self) -> Result<Revision, Error> {
        self.tasks.open()?;
        let current = self.pool.position().await?.current;
        self.told(current).await?;
        Ok(current)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.tasks.open()?;
        self.hub.progress();
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.tasks.open()?;
        compact::compact(&self.pool, &self.hub, revision).await
    }

    async fn status(&self) -> Result<Status, Error> {
        let (position, answers) = self.pool.read(vec![self.pool.driver().size()]).await?;
        self.told(position.current).await?;
        let size = answers[0].first().map_or(Ok(0), |row| row.int(0));
        let size = size.map_err(|failure| self.pool.error(failure.into()))?.unsigned_abs();
        Ok(Status { revision: position.current, compacted: position.compacted, size, size_in_use: size })
    }
}

/// The writer refused, or gave an answer that is to another question.
fn unexpected(doing: &'static str, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Refused(error) => error,
        other => Error::Backend { doing, detail: format!("the writer answered {other:?}") },
    }
}
