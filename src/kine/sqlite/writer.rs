//! The writer: one connection, and one at a time who uses it (`inbox`). All writes that wait are committed in one
//! transaction with one sync (group commit), then watches are told, then each caller is answered. In between comes the
//! housekeeping.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    checkpoint::{self, Checkpoint},
    compact::{self, Compactor},
    connection,
    failure::{self, Failure},
    grant::Grants,
    immediate::Immediate,
    inbox::Submitted,
    lease::Leases,
    lock::Lock,
    op::{Op, Outcome},
    publisher::{Committed, Publisher},
    schema::{self, Position},
    transaction::Writing,
};
use crate::{Error, Event, Metrics, watch::Hub};

/// A commit that takes no longer may be waited for on a thread of the runtime.
const QUICK: Duration = Duration::from_millis(3);

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

/// What there is to write with.
pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    pub(super) lock: Lock,
    pub(super) hub: Arc<Hub>,
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
    /// What commits have taken lately.
    pub(super) pace: Duration,
    /// Whether a commit is on disk when it returns.
    pub(super) synced: bool,
}

/// When the watches are next told how far they are.
pub(super) struct Progress {
    pub(super) interval: Duration,
    pub(super) due: Instant,
}

impl Writer {
    /// Does what is asked, and some of what is due. The answer is who asked for the end; then only [`Writer::close`] may
    /// follow.
    pub(super) fn turn(&mut self, requests: Vec<Request>) -> Option<oneshot::Sender<()>> {
        let (mut writes, mut closing) = (Vec::new(), None);
        for request in requests {
            match request {
                Request::Write(write) => writes.push(write),
                Request::Compact(request) => self.compactor.ask(request),
                Request::Defragment(reply) => self.compactor.defragment(reply),
                Request::Close(reply) => closing = Some(reply),
            }
        }
        self.commit(writes);
        self.expire();
        if closing.is_none() {
            self.compact();
        }
        self.report(|writer| writer.checkpoint.keep_short(&writer.conn), "checkpoint the WAL");
        if self.progress.due <= Instant::now() {
            self.progress.due = Instant::now() + self.progress.interval;
            self.hub.progress();
            self.report(Self::measure, "measure the datastore");
        }
        closing
    }

    /// When [`Writer::turn`] is to be called at the latest.
    pub(super) fn due(&self) -> Instant {
        let waits =
            [self.compactor.wait(self.position), self.leases.wait(), self.grants.wait(), self.checkpoint.wait()];
        waits.into_iter().flatten().min().map_or(self.progress.due, |wait| self.progress.due.min(Instant::now() + wait))
    }

    /// Whether [`Writer::write_now`] is likely to be over soon.
    pub(super) fn may_be_waited_for(&self) -> bool {
        self.pace < QUICK && !self.failing
    }

    /// Makes one write durable, on the thread of who asks for it.
    pub(super) fn write_now(&mut self, op: Op) -> Submitted {
        let done = self.execute(vec![op]).map(|(outcomes, events)| (outcomes.into_iter().next(), events));
        let (outcome, events) = match done {
            Ok((Some(outcome), events)) => (Ok(outcome), events),
            Ok((None, _)) => (Err(Error::Closed), Vec::new()),
            Err(failure) => (Err(failure.into()), Vec::new()),
        };
        self.report(|writer| writer.checkpoint.note(&writer.conn), "look at the WAL");
        if !self.publisher.is_busy() {
            self.hub.publish(self.position, events);
            return Submitted::Done(outcome);
        }
        // What was committed before must be told before.
        let (reply, answer) = oneshot::channel();
        self.publisher.tell(Committed { position: self.position, events, answers: vec![(reply, outcome)] });
        Submitted::Waits(answer)
    }

    /// Makes the writes durable, in order.
    fn commit(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let (ops, replies): (Vec<Op>, Vec<_>) = writes.into_iter().map(|write| (write.op, write.reply)).unzip();
        let (events, answers) = match self.execute(ops) {
            Ok((outcomes, events)) => {
                let outcomes = outcomes.into_iter().map(Ok);
                let answers = replies.into_iter().zip(outcomes).filter_map(|(reply, outcome)| Some((reply?, outcome)));
                (events, answers.collect())
            }
            Err(failure) => {
                let answers = replies.into_iter().flatten().map(|reply| (reply, Err(failure.clone().into())));
                (Vec::new(), answers.collect())
            }
        };
        self.publisher.tell(Committed { position: self.position, events, answers });
    }

    /// Executes all in one transaction. A failed comparison fails only itself; what fails the transaction fails all.
    fn execute(&mut self, ops: Vec<Op>) -> Result<(Vec<Outcome>, Vec<Event>), Failure> {
        let started = Instant::now();
        let done = self.transact(ops);
        let time = started.elapsed();
        self.pace = (self.pace * 7 + time) / 8;
        self.metrics.sql(time, &done.as_ref().err().map(failure::code).unwrap_or_default());
        match done {
            Ok(outcomes) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "the datastore can be written to again");
                }
                let events: Vec<Event> = outcomes.iter().flat_map(Outcome::events).cloned().collect();
                self.compactor.note(&events);
                self.metrics.position(self.position.current, self.position.compacted);
                Ok((outcomes, events))
            }
            Err(error) => {
                self.metrics.insert_error(false);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(path = %self.path.display(), %error, "cannot write to the datastore");
                }
                Err(Failure::new(&self.path, "write", &error))
            }
        }
    }

    fn transact(&mut self, ops: Vec<Op>) -> rusqlite::Result<Vec<Outcome>> {
        self.sync_commits(true)?;
        let now = self.leases.now(&self.conn)?;
        let tx = Immediate::begin(&self.conn)?;
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

    /// Says whether commits from now on are on disk when they return.
    fn sync_commits(&mut self, synced: bool) -> rusqlite::Result<()> {
        if self.synced != synced {
            connection::sync_commits(&self.conn, synced)?;
            self.synced = synced;
        }
        Ok(())
    }

    fn compact(&mut self) {
        if self.compactor.wait(self.position) != Some(Duration::ZERO) {
            return;
        }
        let started = Instant::now();
        // It waits for no disk. A step that a power cut takes back is made again; the next write's sync, being of the
        // same file, keeps it before that write.
        let step = self.sync_commits(false).and_then(|()| self.compactor.step(&mut self.conn, self.position));
        self.metrics.compaction_step(started.elapsed());
        match step {
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
    pub(super) fn close(self) {
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
