//! Compaction: forgets superseded rows in small transactions, between which writes go through, then gives free pages
//! back to the file system in steps just as small.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    checkpoint,
    history::History,
    immediate::Immediate,
    schema::{COMPACT_REV_KEY, Position},
};
use crate::{Error, Event, Revision};

/// What a step may take before its commit, which takes as long again or twice that.
const STEP: Duration = Duration::from_millis(2);
/// The same while more is superseded than compaction has kept up with. With its commit, still less than 10 ms.
const LONGER_STEP: Duration = Duration::from_millis(5);
/// Bytes of superseded rows that start a compaction before its time. Many writes within one interval would else make the
/// file as large as they are.
const MOST: u64 = 48 << 20;
/// So many bytes of them it then leaves.
const LEAVE: u64 = 36 << 20;
/// Revisions, or free pages, between two looks at the clock.
const PIECE: i64 = 16;
/// Free pages that stay in the file for what is written next (1 MiB); with a large file, a third of it.
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
    /// One has come to its end since it was last asked.
    finished: bool,
    history: History,
    vacuuming: bool,
    /// Who waits until all free pages are given back.
    defragment: Vec<oneshot::Sender<Result<(), Error>>>,
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
            finished: false,
            history: History::new(),
            vacuuming: false,
            defragment: Vec::new(),
        }
    }

    /// What was written, and so what is superseded.
    pub(super) fn note(&mut self, events: &[Event]) {
        self.history.add(events);
    }

    /// Takes on a request.
    pub(super) fn ask(&mut self, request: Request) {
        self.target = self.target.max(request.revision);
        self.requests.push(request);
    }

    /// Whether a compaction has come to its end since the last call.
    pub(super) fn take_finished(&mut self) -> bool {
        std::mem::take(&mut self.finished)
    }

    /// Takes on a request to give all free pages back.
    pub(super) fn defragment(&mut self, reply: oneshot::Sender<Result<(), Error>>) {
        self.vacuuming = true;
        self.defragment.push(reply);
    }

    /// How long until [`Compactor::step`] is worth a call; zero while a compaction is under way.
    pub(super) fn wait(&self, position: Position) -> Option<Duration> {
        let early = self.early_target(position).is_some();
        if early || self.target > position.compacted || self.vacuuming || !self.requests.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(self.due?.saturating_duration_since(Instant::now()))
    }

    /// Does a little of what is to do. Returns how far the history is compacted now; when everybody else knows, it is
    /// to be given to [`Compactor::answer`].
    pub(super) fn step(&mut self, conn: &mut Connection, position: Position) -> rusqlite::Result<Revision> {
        self.start_if_due(position);
        if self.target > position.compacted {
            let step = if self.history.bytes() > MOST { LONGER_STEP } else { STEP };
            let upto = forget(conn, position, self.target, step)?;
            self.history.forget(upto);
            if upto == self.target {
                tracing::debug!(revision = upto, "compacted");
                self.finished = true;
                self.vacuuming = shrinkable(conn, self.spare())?;
            }
            return Ok(upto);
        }
        if self.vacuuming {
            vacuum(conn, self.spare())?;
            self.vacuuming = shrinkable(conn, self.spare())?;
        }
        if !self.vacuuming && !self.defragment.is_empty() {
            // Only that cuts the file.
            checkpoint::truncate(conn)?;
            for reply in self.defragment.drain(..) {
                // A caller that no longer waits needs no answer.
                let _ = reply.send(Ok(()));
            }
        }
        Ok(position.compacted)
    }

    /// A step failed: tells those who wait, and leaves the rest to the next time.
    pub(super) fn give_up(&mut self, failure: &dyn Fn() -> Error) {
        self.target = 0;
        self.vacuuming = false;
        for request in self.requests.drain(..) {
            // A caller that no longer waits needs no answer.
            let _ = request.reply.send(Err(failure()));
        }
        for reply in self.defragment.drain(..) {
            let _ = reply.send(Err(failure()));
        }
    }

    /// Free pages that stay in the file; none if somebody asked for all of them.
    fn spare(&self) -> Spare {
        if self.defragment.is_empty() { Spare::Some } else { Spare::None }
    }

    fn start_if_due(&mut self, position: Position) {
        if let Some(target) = self.early_target(position) {
            self.target = self.target.max(target);
        }
        let Some((interval, _)) = self.interval.zip(self.due).filter(|(_, due)| *due <= Instant::now()) else { return };
        self.due = Some(Instant::now() + interval);
        self.target = self.target.max(self.previous.min(position.current - self.retain));
        self.previous = position.current;
    }

    /// How far to go for the room that superseded rows take.
    fn early_target(&self, position: Position) -> Option<Revision> {
        if self.interval.is_none() || self.history.bytes() <= MOST {
            return None;
        }
        let target = self.history.revision_leaving(LEAVE)?.min(position.current - self.retain);
        Some(target).filter(|target| *target > position.compacted)
    }

    /// Tells those who wait for a compaction that came this far.
    pub(super) fn answer(&mut self, compacted: Revision) {
        for request in self.requests.extract_if(.., |request| request.revision <= compacted) {
            let _ = request.reply.send(Ok(()));
        }
    }
}

/// Deletes what the rows up to `target` superseded, and those of them that are deletions themselves, for as long as a
/// step may take. Returns how far it came.
///
/// That is recorded in the same transaction: a crash between two steps leaves no row behind for ever. A key's last value
/// and its deletion go together, since the value is what the deletion superseded.
fn forget(conn: &mut Connection, position: Position, target: Revision, step: Duration) -> rusqlite::Result<Revision> {
    let started = Instant::now();
    let tx = Immediate::begin(conn)?;
    let mut done = position.compacted;
    while done < target && started.elapsed() < step {
        let upto = target.min(done + PIECE);
        tx.prepare_cached(
            "DELETE FROM kine WHERE id IN (SELECT prev_revision FROM kine NOT INDEXED
             WHERE id > ?1 AND id <= ?2 AND prev_revision != 0 AND name != ?3)",
        )?
        .execute((done, upto, COMPACT_REV_KEY))?;
        // The newest row stays whatever it is, since to kine its id is the revision of the datastore. It may be where
        // the last compaction ended: so from there on, not from the row after it.
        tx.prepare_cached("DELETE FROM kine WHERE id >= ?1 AND id <= ?2 AND id < ?3 AND deleted != 0")?.execute((
            done,
            upto,
            position.current,
        ))?;
        done = upto;
    }
    tx.prepare_cached("UPDATE kine SET prev_revision = ?1 WHERE name = ?2")?.execute((done, COMPACT_REV_KEY))?;
    tx.commit()?;
    Ok(done)
}

#[derive(Clone, Copy)]
enum Spare {
    None,
    Some,
}

fn shrinkable(conn: &Connection, spare: Spare) -> rusqlite::Result<bool> {
    let pragma = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let incremental = pragma("PRAGMA auto_vacuum")? == 2;
    let spare = match spare {
        Spare::None => 0,
        Spare::Some => SPARE_PAGES.max(pragma("PRAGMA page_count")? / 3),
    };
    Ok(incremental && pragma("PRAGMA freelist_count")? > spare)
}

/// Gives free pages back, for as long as a step may take. The file is cut at the next checkpoint.
fn vacuum(conn: &mut Connection, spare: Spare) -> rusqlite::Result<()> {
    let started = Instant::now();
    let tx = Immediate::begin(conn)?;
    while started.elapsed() < STEP && shrinkable(&tx, spare)? {
        let mut statement = tx.prepare_cached(&format!("PRAGMA incremental_vacuum({PIECE})"))?;
        let mut rows = statement.query([])?;
        // Each row is a page that was freed.
        while rows.next()?.is_some() {}
    }
    tx.commit()
}
