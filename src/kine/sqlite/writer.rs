//! The writer: one thread, one connection. It takes all writes that wait, commits them in one transaction with one sync
//! (group commit), tells the watches, then answers each caller. In between it does the housekeeping.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    checkpoint::{self, Checkpoint},
    compact::{self, Compactor},
    failure::{self, Failure},
    grant::Grants,
    lease::Leases,
    lock::Lock,
    op::{Op, Outcome},
    publisher::{Committed, Publisher},
    schema::{self, Position},
    transaction::Writing,
};
use crate::{Error, Event, Metrics, watch::Hub};

/// Writes in one transaction at most: a bound for its memory, and for how long the first waits for the last.
const BATCH: usize = 512;

/// What the writer is asked to do.
pub(super) enum Request {
    Write(Write),
    Compact(compact::Request),
    /// Give all free pages back to the disk.
    Defragment(oneshot::Sender<Result<(), Error>>),
    /// Stop, after what was asked before; the answer comes when the file is closed.
    Close(oneshot::Sender<()>),
}

/// A write, and who waits for it: nobody, if the key's time has passed.
pub(super) struct Write {
    pub(super) op: Op,
    pub(super) reply: Option<oneshot::Sender<Result<Outcome, Error>>>,
}

/// The state of the writer's thread.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    pub(super) lock: Lock,
    pub(super) hub: Arc<Hub>,
    pub(super) requests: Receiver<Request>,
    pub(super) position: Position,
    pub(super) compactor: Compactor,
    pub(super) leases: Leases,
    pub(super) grants: Arc<Grants>,
    pub(super) publisher: Publisher,
    pub(super) checkpoint: Checkpoint,
    pub(super) progress: Progress,
    /// A failure is logged when it begins, and when it is over.
    pub(super) failing: bool,
    pub(super) metrics: Metrics,
}

/// When the watches are next told how far they are.
pub(super) struct Progress {
    pub(super) interval: Duration,
    pub(super) due: Instant,
}

/// The end: somebody asked for it, or there is nobody left to ask anything.
struct End(Option<oneshot::Sender<()>>);

impl Writer {
    /// Serves requests until the end.
    pub(super) fn run(mut self) {
        let End(reply) = loop {
            let mut writes = Vec::new();
            let end = self.gather(&mut writes);
            self.commit(writes);
            self.expire();
            if end.is_none() {
                self.compact();
            }
            self.report(|writer| writer.checkpoint.keep_short(&writer.conn), "checkpoint the WAL");
            if self.progress.due <= Instant::now() {
                self.progress.due = Instant::now() + self.progress.interval;
                self.hub.progress();
                self.report(Self::measure, "measure the datastore");
            }
            if let Some(end) = end {
                break end;
            }
        };
        self.close();
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    /// Waits for something to do, then takes all there is.
    fn gather(&mut self, writes: &mut Vec<Write>) -> Option<End> {
        let wait = [self.compactor.wait(self.position), self.leases.wait(), self.grants.wait()]
            .into_iter()
            .flatten()
            .fold(self.progress.due.saturating_duration_since(Instant::now()), Duration::min);
        let mut next = match self.requests.recv_timeout(wait) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(End(None)),
        };
        loop {
            match next {
                Request::Write(write) => writes.push(write),
                Request::Compact(request) => self.compactor.ask(request),
                Request::Defragment(reply) => self.compactor.defragment(reply),
                Request::Close(reply) => return Some(End(Some(reply))),
            }
            if writes.len() == BATCH {
                return None;
            }
            next = match self.requests.try_recv() {
                Ok(request) => request,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(End(None)),
            };
        }
    }

    /// Makes the writes durable, in order. A failed comparison fails only itself; what fails the transaction fails all.
    fn commit(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let (ops, replies): (Vec<Op>, Vec<_>) = writes.into_iter().map(|write| (write.op, write.reply)).unzip();
        let started = Instant::now();
        let done = self.transact(ops);
        let code = done.as_ref().err().map(failure::code).unwrap_or_default();
        self.metrics.sql(started.elapsed(), &code);
        match done {
            Ok(outcomes) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "the datastore can be written to again");
                }
                let events: Vec<Event> = outcomes.iter().flat_map(Outcome::events).cloned().collect();
                self.compactor.note(&events);
                self.metrics.position(self.position.current, self.position.compacted);
                let outcomes = outcomes.into_iter().map(Ok);
                let answers = replies.into_iter().zip(outcomes).filter_map(|(reply, outcome)| Some((reply?, outcome)));
                self.publisher.tell(Committed { position: self.position, events, answers: answers.collect() });
            }
            Err(error) => {
                let failure = Failure::new(&self.path, "write", &error);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(path = %self.path.display(), %error, "cannot write to the datastore");
                }
                let answers = replies.into_iter().flatten().map(|reply| (reply, Err(failure.clone().into())));
                self.publisher.tell(Committed {
                    position: self.position,
                    events: Vec::new(),
                    answers: answers.collect(),
                });
            }
        }
    }

    fn transact(&mut self, ops: Vec<Op>) -> rusqlite::Result<Vec<Outcome>> {
        let now = self.leases.now(&self.conn)?;
        let tx = self.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut writing = Writing { conn: &tx, position: self.position, now, first_end: None };
        let outcomes = ops.into_iter().map(|op| op.apply(&mut writing)).collect::<rusqlite::Result<Vec<Outcome>>>()?;
        let Writing { position, first_end, .. } = writing;
        tx.commit()?;
        self.position = position;
        for outcome in &outcomes {
            match outcome {
                Outcome::Granted { id, ttl } => self.grants.add(*id, *ttl),
                Outcome::Revoked { id, .. } => self.grants.remove(*id),
                _ => {}
            }
        }
        if let Some(end) = first_end {
            self.leases.note(end);
        }
        Ok(outcomes)
    }

    /// Deletes the keys whose time has passed.
    fn expire(&mut self) {
        self.report(
            |writer| {
                let Some(expired) = writer.leases.expired(&writer.conn)? else { return Ok(()) };
                writer.commit(expired.into_iter().map(|op| Write { op, reply: None }).collect());
                if writer.failing { Ok(()) } else { writer.leases.settle(&writer.conn) }
            },
            "delete keys whose time has passed",
        );
        let ended = self.grants.take_ended();
        if !ended.is_empty() {
            self.commit(ended.iter().map(|(id, _)| Write { op: Op::Revoke { id: *id }, reply: None }).collect());
            if self.failing {
                self.grants.put_back(ended);
            }
        }
    }

    fn compact(&mut self) {
        if self.compactor.wait(self.position) != Some(Duration::ZERO) {
            return;
        }
        match self.compactor.step(&mut self.conn, self.position) {
            Ok(compacted) => {
                self.position.compacted = compacted;
                self.hub.compacted(compacted);
                // Not before: who was told of it must not be given a watch of what is gone.
                self.compactor.answer(compacted);
                self.metrics.position(self.position.current, compacted);
                if self.compactor.take_finished() {
                    self.metrics.compacted(true);
                }
            }
            Err(error) => {
                self.warn("compact", &error);
                self.metrics.compacted(false);
                let failure = Failure::new(&self.path, "compact", &error);
                self.compactor.give_up(&|| failure.clone().into());
            }
        }
    }

    fn measure(&mut self) -> rusqlite::Result<()> {
        let (pages, _, page) = schema::pages(&self.conn)?;
        let wal = checkpoint::length(&self.conn)?;
        let bytes = |pages: u64| i64::try_from(pages.saturating_mul(page)).unwrap_or(i64::MAX);
        self.metrics.sizes(bytes(pages), bytes(wal));
        Ok(())
    }

    /// Empties the WAL and closes the file, then lets go of the lock.
    fn close(self) {
        self.publisher.flush();
        self.hub.close();
        let Self { conn, path, lock, checkpoint, .. } = self;
        checkpoint.end();
        if let Err(error) = checkpoint::truncate(&conn) {
            warn(&path, "empty the WAL", &error);
        }
        match conn.close() {
            Ok(()) => lock.clean(),
            Err((_, error)) => warn(&path, "close", &error),
        }
    }

    /// Housekeeping that failed: nothing is lost, and it is tried again later.
    fn report(&mut self, task: impl FnOnce(&mut Self) -> rusqlite::Result<()>, doing: &'static str) {
        if let Err(error) = task(self) {
            self.warn(doing, &error);
        }
    }

    fn warn(&self, doing: &'static str, error: &rusqlite::Error) {
        // While writes fail, for lack of space most likely, so does all of this; it has been said once.
        if !self.failing {
            warn(&self.path, doing, error);
        }
    }
}

fn warn(path: &Path, doing: &'static str, error: &rusqlite::Error) {
    tracing::warn!(path = %path.display(), doing, %error, "datastore housekeeping failed");
}
