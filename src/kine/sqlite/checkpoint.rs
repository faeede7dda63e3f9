//! Keeps the WAL short: its pages go into the database file. A thread of its own does that beside the writer; the writer
//! only completes it, since the WAL starts anew when every page of it is in the file and no page has been added since.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{connection, failure::Failure};

/// Pages in the WAL that are not in the file and start a checkpoint (4 MiB).
const START: i64 = 1000;
/// Pages in the WAL (8 MiB) from which on it is to start anew.
const RESTART: i64 = 2 * START;
/// So many pages the writer puts into the file itself, to complete a checkpoint (512 KiB).
const COMPLETE: i64 = 128;
/// Pages in the WAL (12 MiB) from which on it is worth four times that.
const LATE: i64 = 3 * START;
/// Pages in the WAL (16 MiB) from which on the writer lets the thread catch up before it goes on.
const BRAKE: i64 = 4 * START;
/// For so long, each time.
const REST: Duration = Duration::from_millis(8);
/// Pages in the WAL (20 MiB) from which on the writer does what is to do, and waits for readers. With readers that
/// always overlap it would else grow for ever.
const INSIST: i64 = 5 * START;
/// How long the writer waits for readers.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often the thread goes on with what was written meanwhile.
const ROUNDS: u32 = 10;

/// The thread that makes checkpoints, and what the last one left behind.
pub(super) struct Checkpoint {
    wake: Option<mpsc::SyncSender<()>>,
    running: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// After waiting for readers in vain, the length at which to try again.
    again_at: i64,
    /// There is something that only the writer can do.
    owed: bool,
}

impl Checkpoint {
    /// Starts the thread, with a connection of its own.
    pub(super) fn start(path: &Path) -> Result<Self, Failure> {
        let conn = connection::plain(path)
            .map_err(|error| Failure::new(path, "open the datastore for checkpoints", &error))?;
        let running = Arc::new(AtomicBool::new(false));
        let (wake, woken) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("kine-checkpoint".into())
            .spawn({
                let (running, path) = (Arc::clone(&running), path.to_owned());
                move || {
                    while let Ok(()) = woken.recv() {
                        if let Err(error) = catch_up(&conn) {
                            // Nothing is lost; the writer asks again.
                            tracing::warn!(path = %path.display(), %error, "cannot checkpoint the WAL");
                        }
                        running.store(false, Ordering::Release);
                    }
                }
            })
            .map_err(|error| Failure::io(path, "start the thread for checkpoints", &error))?;
        Ok(Self { wake: Some(wake), running, thread: Some(thread), again_at: 0, owed: false })
    }

    /// Has a checkpoint made, if it is time for that.
    pub(super) fn note(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let wal = wal_checkpoint(conn, "NOOP")?;
        let left = wal.pages - wal.done;
        let running = self.running.load(Ordering::Acquire);
        let complete = if wal.pages < LATE { COMPLETE } else { 4 * COMPLETE };
        let restart = wal.pages >= RESTART && left > 0;
        self.owed = wal.pages >= INSIST.max(self.again_at)
            || if running { wal.pages >= BRAKE } else { restart && left <= complete };
        if !running
            && (left >= START || restart && left > complete)
            && let Some(wake) = &self.wake
        {
            self.running.store(true, Ordering::Release);
            if wake.try_send(()).is_err() {
                self.running.store(false, Ordering::Release);
            }
        }
        Ok(())
    }

    /// How long until [`Checkpoint::keep_short`] is worth a call, as far as is known.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.owed.then_some(Duration::ZERO)
    }

    /// Has a checkpoint made, or completes one, if it is time for that.
    pub(super) fn keep_short(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.note(conn)?;
        if !std::mem::take(&mut self.owed) {
            return Ok(());
        }
        let started = Instant::now();
        while self.running.load(Ordering::Acquire) && started.elapsed() < REST {
            std::thread::sleep(REST / 16);
        }
        let wal = wal_checkpoint(conn, "NOOP")?;
        if wal.pages >= INSIST.max(self.again_at) {
            return self.insist(conn);
        }
        if !self.running.load(Ordering::Acquire) && wal.pages - wal.done <= 4 * COMPLETE {
            wal_checkpoint(conn, "PASSIVE")?;
        }
        Ok(())
    }

    fn insist(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let usual = conn.query_row("PRAGMA busy_timeout", [], |row| row.get::<_, u32>(0))?;
        conn.busy_timeout(PATIENCE)?;
        let restarted = wal_checkpoint(conn, "RESTART");
        conn.busy_timeout(Duration::from_millis(usual.into()))?;
        let wal = restarted?;
        self.again_at = if wal.busy { wal.pages + START } else { 0 };
        Ok(())
    }

    /// Ends the thread and closes its connection.
    pub(super) fn end(mut self) {
        self.wake = None;
        // A panic in it was logged as one; nothing else is to do about it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Puts pages into the file until few are left, or until it is clear that the writer is as quick.
fn catch_up(conn: &Connection) -> rusqlite::Result<()> {
    for _ in 0..ROUNDS {
        wal_checkpoint(conn, "PASSIVE")?;
        let wal = wal_checkpoint(conn, "NOOP")?;
        if wal.pages - wal.done <= COMPLETE {
            break;
        }
    }
    Ok(())
}

/// Empties the WAL and cuts the database file where its free pages were given back. Waits a while for readers.
pub(super) fn truncate(conn: &Connection) -> rusqlite::Result<()> {
    wal_checkpoint(conn, "TRUNCATE").map(drop)
}

/// How many pages are in the WAL.
pub(super) fn length(conn: &Connection) -> rusqlite::Result<u64> {
    Ok(wal_checkpoint(conn, "NOOP")?.pages.max(0).unsigned_abs())
}

struct Wal {
    busy: bool,
    pages: i64,
    /// How many of them are in the database file.
    done: i64,
}

fn wal_checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<Wal> {
    conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok(Wal { busy: row.get(0)?, pages: row.get(1)?, done: row.get(2)? }))
}
