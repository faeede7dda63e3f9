//! Compaction: forgets superseded rows in small transactions, between which writes go through, then gives free pages
//! back to the file system in steps just as small.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::schema::{COMPACT_REV_KEY, Position};
use crate::{Error, Revision};

/// What a step may take.
const STEP: Duration = Duration::from_millis(4);
/// Free pages that stay in the file for what is written next (1 MiB); with a large file, an eighth of it.
const SPARE_PAGES: i64 = 256;

/// Who waits for a compaction.
pub(super) struct Request {
    pub(super) revision: Revision,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}

/// What there is to compact, and when.
pub(super) struct Compactor {
    interval: Option<Duration>,
    retain: Revision,
    due: Option<Instant>,
    /// The revision when compaction was last due. What happened since stays, as in kine, so that a client with a list
    /// or watch of some minutes ago can go on from there.
    previous: Revision,
    target: Revision,
    requests: Vec<Request>,
    rows: Pace,
    vacuum: Option<Pace>,
}

impl Compactor {
    pub(super) fn new(interval: Option<Duration>, retain: Revision, current: Revision) -> Self {
        Self {
            interval,
            retain,
            due: interval.map(|interval| Instant::now() + interval),
            previous: current,
            target: 0,
            requests: Vec::new(),
            rows: Pace::new(32),
            vacuum: None,
        }
    }

    /// Takes on a request.
    pub(super) fn ask(&mut self, request: Request) {
        self.target = self.target.max(request.revision);
        self.requests.push(request);
    }

    /// How long until [`Compactor::step`] is worth a call; zero while a compaction is under way.
    pub(super) fn wait(&self, position: Position) -> Option<Duration> {
        if self.target > position.compacted || self.vacuum.is_some() || !self.requests.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(self.due?.saturating_duration_since(Instant::now()))
    }

    /// Does a little of what is to do. Returns how far the history is compacted now.
    pub(super) fn step(&mut self, conn: &mut Connection, position: Position) -> rusqlite::Result<Revision> {
        self.start_if_due(position);
        let started = Instant::now();
        if self.target > position.compacted {
            let upto = self.target.min(position.compacted + self.rows.size);
            forget(conn, position, upto)?;
            self.rows.adjust(started.elapsed());
            if upto == self.target {
                tracing::debug!(revision = upto, "compacted");
                self.vacuum = shrinkable(conn)?.then(|| Pace::new(16));
            }
            self.answer(upto);
            return Ok(upto);
        }
        self.answer(position.compacted);
        if let Some(pace) = &mut self.vacuum {
            vacuum(conn, pace.size)?;
            pace.adjust(started.elapsed());
            if !shrinkable(conn)? {
                self.vacuum = None;
            }
        }
        Ok(position.compacted)
    }

    /// A step failed: tells those who wait, and leaves the rest to the next time.
    pub(super) fn give_up(&mut self, failure: &dyn Fn() -> Error) {
        self.target = 0;
        self.vacuum = None;
        for request in self.requests.drain(..) {
            // A caller that no longer waits needs no answer.
            let _ = request.reply.send(Err(failure()));
        }
    }

    fn start_if_due(&mut self, position: Position) {
        let Some((interval, _)) = self.interval.zip(self.due).filter(|(_, due)| *due <= Instant::now()) else { return };
        self.due = Some(Instant::now() + interval);
        self.target = self.target.max(self.previous.min(position.current - self.retain));
        self.previous = position.current;
    }

    fn answer(&mut self, compacted: Revision) {
        for request in self.requests.extract_if(.., |request| request.revision <= compacted) {
            let _ = request.reply.send(Ok(()));
        }
    }
}

/// How much to do at once, so that a step takes about as long as it may.
struct Pace {
    size: i64,
}

impl Pace {
    fn new(size: i64) -> Self {
        Self { size }
    }

    fn adjust(&mut self, took: Duration) {
        if took > STEP {
            self.size = (self.size / 2).max(8);
        } else if took < STEP / 4 {
            // Not by much more: where many rows were gone already, all may be there in the next step.
            self.size = (self.size * 2).min(512);
        }
    }
}

/// Deletes what the rows up to `upto` superseded, and those of them that are deletions themselves.
///
/// How far it came is recorded in the same transaction: a crash between two steps leaves no row behind for ever. A key's
/// last value and its deletion go together, since the value is what the deletion superseded.
fn forget(conn: &mut Connection, position: Position, upto: Revision) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.prepare_cached(
        "DELETE FROM kine WHERE id IN (SELECT prev_revision FROM kine NOT INDEXED
         WHERE id > ?1 AND id <= ?2 AND prev_revision != 0 AND name != ?3)",
    )?
    .execute((position.compacted, upto, COMPACT_REV_KEY))?;
    // The newest row stays whatever it is, since to kine its id is the revision of the datastore. It may be where the
    // last compaction ended: so from there on, not from the row after it.
    tx.prepare_cached("DELETE FROM kine WHERE id >= ?1 AND id <= ?2 AND id < ?3 AND deleted != 0")?.execute((
        position.compacted,
        upto,
        position.current,
    ))?;
    tx.prepare_cached("UPDATE kine SET prev_revision = ?1 WHERE name = ?2")?.execute((upto, COMPACT_REV_KEY))?;
    tx.commit()
}

fn shrinkable(conn: &Connection) -> rusqlite::Result<bool> {
    let pragma = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let incremental = pragma("PRAGMA auto_vacuum")? == 2;
    Ok(incremental && pragma("PRAGMA freelist_count")? > SPARE_PAGES.max(pragma("PRAGMA page_count")? / 8))
}

fn vacuum(conn: &Connection, pages: i64) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    // Each step frees one page.
    while rows.next()?.is_some() {}
    Ok(())
}
