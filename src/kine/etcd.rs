//! The datastore in an etcd cluster outside of this process. Its semantics are etcd's own; what is done here is to find a
//! member that answers ([`Endpoint`], `cluster`, `member`), to follow its history for all watches together (`stream`,
//! `follow`), to end keys with a time to live (`ends`) and to compact (`compact`).
//!
//! The cluster serves while most of its members do: the next one is asked when one does not answer. A write whose
//! connection broke fails with [`Error::Unavailable`], as it may have been done; everything else is asked again for as
//! long as a request may take ([`Options::request_timeout`]). Watches stay open and go on where they were.
//!
//! All keys are followed. If etcd has users, this one's needs a role for all keys.

mod cluster;
mod compact;
mod endpoint;
mod ends;
mod failure;
mod follow;
mod lease;
mod member;
mod message;
mod method;
mod stream;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbRangeRequest, PbRangeResponse, PbStatusRequest, PbStatusResponse, PbTxnOpRequest,
    PbTxnResponse,
};
use tokio::sync::mpsc;

pub use self::endpoint::Endpoint;
use self::{
    cluster::{Cluster, Repeat},
    compact::Compactor,
    ends::{End, Ends},
    failure::{Failure, Refusal},
    follow::Follower,
};
use crate::{
    Datastore, Error, KeyValue, Lease, LeaseId, Metrics, Range, Revision, Status, Txn, TxnOp, TxnResponse, Watch,
    tasks::Tasks,
    watch::{Hub, Interval, Joined, Position},
};

/// How a datastore behaves; the defaults are kine's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often the history is compacted, up to where it stood one interval ago; `None`: only when asked. Etcd may do
    /// so by itself as well.
    pub compact_interval: Option<Duration>,
    /// How many of the newest revisions automatic compaction never touches.
    pub compact_retain: i64,
    /// How many batches a watch may be behind before it is dropped.
    pub watch_buffer: usize,
    /// How often quiet watches are told where they stand.
    pub progress_interval: Duration,
    /// How long a request waits for a cluster that is away.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact_interval: Some(Duration::from_secs(300)),
            compact_retain: 1000,
            watch_buffer: 1024,
            progress_interval: Duration::from_secs(5),
            request_timeout: Duration::from_secs(20),
        }
    }
}

/// A [`Datastore`] in an etcd cluster.
pub struct Etcd {
    cluster: Arc<Cluster>,
    hub: Arc<Hub>,
    ends: Ends,
    metrics: Metrics,
    tasks: Tasks,
    watch_buffer: usize,
}

impl Etcd {
    /// Opens the datastore in an etcd cluster.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no member can be reached or trusted, [`Error::Denied`] if etcd lets this server not in,
    /// [`Error::Backend`] for the rest.
    pub async fn open(endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        let failed = |failure: Failure| failure.to_error(&endpoint.server, "open the datastore");
        let cluster = Arc::new(Cluster::new(&endpoint, options.request_timeout).map_err(failed)?);
        let seen = cluster.seen().await.map_err(failed)?;
        let compacted = cluster.compacted().await.map_err(failed)?;
        tracing::info!(server = cluster.server, revision = seen.revision, "opened the datastore");

        let position = Position { current: seen.revision, compacted };
        let hub = Arc::new(Hub::new(position));
        let metrics = Metrics::default();
        metrics.position(position.current, position.compacted);
        let store = Self {
            cluster: Arc::clone(&cluster),
            hub: Arc::clone(&hub),
            ends: Ends::new(Arc::clone(&cluster)),
            metrics: metrics.clone(),
            tasks: Tasks::default(),
            watch_buffer: options.watch_buffer.max(1),
        };
        let (interval, retain) = (options.compact_interval, options.compact_retain);
        if let Some(interval) = interval {
            let (cluster, hub, metrics) = (Arc::clone(&cluster), Arc::clone(&hub), metrics.clone());
            store.tasks.spawn(Compactor { cluster, hub, metrics, interval, retain }.run());
        }
        let progress_interval = options.progress_interval;
        store.tasks.spawn(Follower { cluster, hub, metrics, progress_interval, id: seen.cluster }.run());
        Ok(store)
    }

    /// What it counts, to be registered with what shows metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Ends all watches and connections. What was not acknowledged by then may or may not have been done. Calls after
    /// it give [`Error::Closed`]; a second call does nothing.
    ///
    /// # Errors
    /// None so far.
    pub async fn close(&self) -> Result<(), Error> {
        self.tasks.close().await;
        self.hub.close();
        Ok(())
    }

    /// Has etcd asked a question about the history at `asked` (0: now).
    async fn answer<T>(
        &self,
        doing: &'static str,
        asked: Revision,
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        match self.tasks.until_closed(asking).await? {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.cluster.error(doing, asked, failure).await),
        }
    }

    /// Waits until the watches have been told of `revision`, which has happened.
    async fn told(&self, revision: Revision) -> Result<(), Error> {
        if self.hub.current() < revision {
            let late = |_| Error::Unavailable {
                server: self.cluster.server.clone(),
                detail: format!("revision {revision} did not come through in time"),
            };
            tokio::time::timeout(self.cluster.patience, self.hub.reached(revision)).await.map_err(late)??;
        }
        Ok(())
    }

    /// Writes or deletes one key, if it is at the expected revision; 0: not there.
    async fn write(&self, key: Bytes, expected: Revision, write: PbTxnOpRequest) -> Result<Revision, Error> {
        let answer = self.tasks.until_closed(self.write_once(&key, expected, write)).await?;
        match answer {
            Ok(outcome) => outcome,
            Err(failure) => Err(self.cluster.error("write", 0, failure).await),
        }
    }

    async fn write_once(
        &self,
        key: &Bytes,
        expected: Revision,
        write: PbTxnOpRequest,
    ) -> Result<Result<Revision, Error>, Failure> {
        let request = message::if_unchanged(key, expected, write);
        let answer: PbTxnResponse = self.cluster.ask(method::TXN, request, Repeat::IfNothingDone).await?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.succeeded {
            return Ok(Ok(revision));
        }
        let current = message::found(answer).map(Box::new);
        Ok(Err(Error::Conflict { key: String::from_utf8_lossy(key).into_owned(), current, revision }))
    }

    /// Writes one key with a time to live in seconds.
    async fn put(&self, key: Bytes, expected: Revision, value: Bytes, ttl: i64) -> Result<Revision, Error> {
        let put = |lease| {
            let (key, value) = (key.to_vec(), value.to_vec());
            PbTxnOpRequest::RequestPut(PbPutRequest { key, value, lease, ..PbPutRequest::default() })
        };
        if ttl <= 0 {
            return self.write(key.clone(), expected, put(0)).await;
        }
        loop {
            let end = self.answer("grant a lease", 0, self.ends.take(ttl)).await?;
            match self.tasks.until_closed(self.write_once(&key, expected, put(end.id))).await? {
                Ok(Ok(revision)) => return Ok(revision),
                Ok(Err(conflict)) => {
                    self.give_back(end).await;
                    return Err(conflict);
                }
                Err(Failure::Refused(Refusal::LeaseNotFound)) => self.ends.gone(end),
                Err(failure) => {
                    if failure.nothing_done() {
                        self.give_back(end).await;
                    }
                    return Err(self.cluster.error("write", 0, failure).await);
                }
            }
        }
    }

    /// A lease's write was not done. When the datastore closes meanwhile, the lease ends by itself.
    async fn give_back(&self, end: End) {
        let _ = self.tasks.until_closed(self.ends.give_back(end)).await;
    }

    /// What a lease's refusals mean.
    async fn of_lease<T>(
        &self,
        doing: &'static str,
        (id, ttl): (LeaseId, i64),
        asking: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        match self.tasks.until_closed(asking).await? {
            Ok(answer) => Ok(answer),
            Err(Failure::Refused(Refusal::LeaseNotFound)) => Err(Error::LeaseNotFound { id }),
            Err(Failure::Refused(Refusal::LeaseExists)) => Err(Error::LeaseExists { id }),
            Err(Failure::Refused(Refusal::LeaseTooLong)) => Err(Error::LeaseTooLong { ttl }),
            Err(failure) => Err(self.cluster.error(doing, 0, failure).await),
        }
    }
}

#[async_trait]
impl Datastore for Etcd {
    async fn create(&self, key: Bytes, value: Bytes, lease: i64) -> Result<Revision, Error> {
        self.put(key, 0, value, lease).await
    }

    async fn update(&self, key: Bytes, expected: Revision, value: Bytes, lease: i64) -> Result<Revision, Error> {
        if expected == 0 {
            // To etcd that would be a creation.
            let (revision, current) = self.get(key.clone(), 0).await?;
            let (key, current) = (String::from_utf8_lossy(&key).into_owned(), current.map(Box::new));
            return Err(Error::Conflict { key, current, revision });
        }
        self.put(key, expected, value, lease).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, Error> {
        let delete = PbDeleteRequest { key: key.to_vec(), ..PbDeleteRequest::default() };
        let deleted = self.write(key.clone(), expected, PbTxnOpRequest::RequestDeleteRange(delete)).await?;
        if expected == 0 {
            // It was not there, and etcd deleted nothing.
            let key = String::from_utf8_lossy(&key).into_owned();
            return Err(Error::Conflict { key, current: None, revision: deleted });
        }
        Ok(deleted)
    }

    async fn get(&self, key: Bytes, revision: Revision) -> Result<(Revision, Option<KeyValue>), Error> {
        let request = PbRangeRequest { key: key.to_vec(), revision, ..PbRangeRequest::default() };
        if key.is_empty() {
            return Ok((self.current_revision().await?, None));
        }
        let asking = self.cluster.ask::<_, PbRangeResponse>(method::RANGE, request, Repeat::Always);
        let answer = self.answer("read", revision, asking).await?;
        let current = answer.header.as_ref().map_or(0, |header| header.revision);
        Ok((current, answer.kvs.into_iter().next().map(KeyValue::from)))
    }

    async fn range(&self, start: Bytes, end: Bytes, limit: i64, revision: Revision) -> Result<Range, Error> {
        let request = message::range_request(&start, &end, limit, revision);
        let asking = self.cluster.ask::<_, PbRangeResponse>(method::RANGE, request, Repeat::Always);
        let answer = self.answer("read", revision, asking).await?;
        let current = answer.header.as_ref().map_or(0, |header| header.revision);
        Ok(message::range(answer, current))
    }

    async fn count(&self, start: Bytes, end: Bytes, revision: Revision) -> Result<(Revision, i64), Error> {
        let request = PbRangeRequest { count_only: true, ..message::range_request(&start, &end, 0, revision) };
        let asking = self.cluster.ask::<_, PbRangeResponse>(method::RANGE, request, Repeat::Always);
        let answer = self.answer("count", revision, asking).await?;
        Ok((answer.header.as_ref().map_or(0, |header| header.revision), answer.count))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let repeat = if txn.is_read_only() { Repeat::Always } else { Repeat::IfNothingDone };
        let request = message::txn_request(&txn);
        let doing = "execute a transaction";
        let asking = self.cluster.ask::<_, PbTxnResponse>(method::TXN, request, repeat);
        match self.tasks.until_closed(asking).await? {
            Ok(answer) => message::txn_response(answer).ok_or_else(|| Error::Backend {
                doing,
                detail: format!("{} answers something else", self.cluster.server),
            }),
            Err(failure) => Err(self.refused_txn(&txn, failure, doing).await),
        }
    }

    async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<Lease, Error> {
        self.of_lease("grant a lease", (id, ttl), lease::grant(&self.cluster, id, ttl)).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        let kept = self.of_lease("keep a lease alive", (id, 0), lease::keep_alive(&self.cluster, id)).await?;
        kept.ok_or(Error::LeaseNotFound { id })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        self.of_lease("revoke a lease", (id, 0), lease::revoke(&self.cluster, id)).await
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Lease, Error> {
        let there = self.of_lease("look at a lease", (id, 0), lease::look(&self.cluster, id)).await?;
        there.map(|(lease, _)| lease).ok_or(Error::LeaseNotFound { id })
    }

    async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        let there = self.of_lease("look at a lease", (id, 0), lease::look(&self.cluster, id)).await?;
        Ok(there.map(|(_, keys)| keys).unwrap_or_default().into_iter().map(Bytes::from).collect())
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        self.of_lease("list leases", (0, 0), lease::list(&self.cluster)).await
    }

    async fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, Error> {
        if after > self.hub.current() {
            // Another server may have told of it, or this one's answer was faster than the event.
            let current = self.answer("watch", 0, self.cluster.seen()).await?.revision;
            if after > current {
                return Err(Error::Future { asked: after, current });
            }
            self.told(after).await?;
        }
        self.hub.check(after)?;
        let (sender, watch) = mpsc::channel(self.watch_buffer);
        let interval = Interval { start, end };
        if let Joined::Behind = self.hub.join(&interval, &sender, after) {
            let compacted = self.answer("watch", after, self.cluster.compacted()).await?;
            if compacted > after {
                self.hub.compacted(compacted);
                return Err(Error::Compacted { asked: after, compacted });
            }
            let (cluster, hub) = (Arc::clone(&self.cluster), Arc::clone(&self.hub));
            self.tasks.spawn(follow::catch_up(cluster, hub, interval, sender, after));
        }
        Ok(watch)
    }

    async fn current_revision(&self) -> Result<Revision, Error> {
        let current = self.answer("look where the history stands", 0, self.cluster.seen()).await?.revision;
        self.told(current).await?;
        Ok(current)
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.tasks.open()?;
        self.hub.progress();
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let current = self.answer("compact", 0, self.cluster.seen()).await?.revision;
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        // Etcd looks up what was before an event when it sends it: then that must still be there.
        self.told(revision).await?;
        self.answer("compact", revision, compact::compact(&self.cluster, &self.hub, revision)).await
    }

    async fn status(&self) -> Result<Status, Error> {
        let doing = "look how etcd is";
        let asking = self.cluster.ask::<_, PbStatusResponse>(method::STATUS, PbStatusRequest {}, Repeat::Always);
        let status = self.answer(doing, 0, asking).await?;
        let compacted = self.answer(doing, 0, self.cluster.compacted()).await?;
        self.hub.compacted(compacted);
        let revision = self.current_revision().await?;
        let size = status.db_size.unsigned_abs();
        Ok(Status { revision, compacted, size, size_in_use: status.db_size_in_use.unsigned_abs() })
    }
}

impl Etcd {
    async fn refused_txn(&self, txn: &Txn, failure: Failure, doing: &'static str) -> Error {
        let ops = || txn.success.iter().chain(&txn.failure);
        let put = |needs: fn(&TxnOp) -> bool| {
            ops().find_map(|op| match op {
                TxnOp::Put { key, lease, .. } if needs(op) => Some((key.clone(), lease.unwrap_or(0))),
                _ => None,
            })
        };
        match failure {
            Failure::Refused(Refusal::LeaseNotFound) => {
                let needs = put(|op| matches!(op, TxnOp::Put { lease: Some(lease), .. } if *lease != 0));
                Error::LeaseNotFound { id: needs.map_or(0, |(_, lease)| lease) }
            }
            Failure::Refused(Refusal::KeyNotFound) => {
                let needs =
                    put(|op| matches!(op, TxnOp::Put { value, lease, .. } if value.is_none() || lease.is_none()));
                let key = needs.map_or_else(Bytes::new, |(key, _)| key);
                Error::KeyNotFound { key: String::from_utf8_lossy(&key).into_owned() }
            }
            failure => {
                let past = ops().find_map(|op| match op {
                    TxnOp::Range { revision, .. } if *revision > 0 => Some(*revision),
                    _ => None,
                });
                self.cluster.error(doing, past.unwrap_or(0), failure).await
            }
        }
    }
}
