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
    time::Duration,
};

use rusqlite::Connection;

use super::{connection, failure::Failure};

/// Pages in the WAL that are not in the file and start a checkpoint (4 MiB).
const START: i64 = 1000;
/// Pages in the WAL (8 MiB) from which on it is to start anew.
const RESTART: i64 = 2 * START;
/// So many pages the writer puts into the file itself, to complete a checkpoint (2 MiB).
const COMPLETE: i64 = START / 2;
/// Pages in the WAL (16 MiB) from which on the writer does what is to do, and waits for readers. With readers that
/// always overlap it would else grow for ever.
const INSIST: i64 = 4 * START;
/// How long the writer waits for readers.
const PATIENCE: Duration = Duration::from_millis(20);

/// The thread that makes checkpoints, and what the last one left behind.
pub(super) struct Checkpoint {
    wake: Option<mpsc::SyncSender<()>>,
    running: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// After waiting for readers in vain, the length at which to try again.
    again_at: i64,
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
                        if let Err(error) = wal_checkpoint(&conn, "PASSIVE") {
                            // Nothing is lost; the writer asks again.
                            tracing::warn!(path = %path.display(), %error, "cannot checkpoint the WAL");
                        }
                        running.store(false, Ordering::Release);
                    }
                }
            })
            .map_err(|error| Failure::io(path, "start the thread for checkpoints", &error))?;
        Ok(Self { wake: Some(wake), running, thread: Some(thread), again_at: 0 })
    }

    /// Has a checkpoint made, or completes one, if it is time for that.
    pub(super) fn keep_short(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let wal = wal_checkpoint(conn, "NOOP")?;
        let left = wal.pages - wal.done;
        let running = self.running.load(Ordering::Acquire);
        if wal.pages >= INSIST.max(self.again_at) {
            return self.insist(conn);
        }
        if running {
            return Ok(());
        }
        if wal.pages >= RESTART && left > 0 && left <= COMPLETE {
            wal_checkpoint(conn, "PASSIVE")?;
        } else if left >= START
            && let Some(wake) = &self.wake
        {
            self.running.store(true, Ordering::Release);
            if wake.try_send(()).is_err() {
                self.running.store(false, Ordering::Release);
            }
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
