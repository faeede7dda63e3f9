//! Keeps the WAL short: its pages go into the database file between batches, when nobody waits for an answer.

use std::time::Duration;

use rusqlite::Connection;

/// Pages in the WAL that start a checkpoint (4 MiB).
const START: i64 = 1000;
/// Pages in the WAL (16 MiB) from which on the writer waits for readers, so that the WAL can start anew. With readers
/// that always overlap it would else grow for ever.
const INSIST: i64 = 4 * START;
/// How long the writer waits for readers.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the last checkpoint left behind.
#[derive(Default)]
pub(super) struct Checkpoint {
    /// After waiting for readers in vain, the length at which to try again.
    again_at: i64,
}

impl Checkpoint {
    /// Makes a checkpoint if it is time for one.
    pub(super) fn keep_short(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let wal = wal_checkpoint(conn, "NOOP")?;
        if wal.pages - wal.done < START {
            return Ok(());
        }
        let wal = wal_checkpoint(conn, "PASSIVE")?;
        if wal.pages < INSIST.max(self.again_at) {
            return Ok(());
        }
        let usual = conn.query_row("PRAGMA busy_timeout", [], |row| row.get::<_, u32>(0))?;
        conn.busy_timeout(PATIENCE)?;
        let restarted = wal_checkpoint(conn, "RESTART");
        conn.busy_timeout(Duration::from_millis(usual.into()))?;
        let wal = restarted?;
        self.again_at = if wal.busy { wal.pages + INSIST } else { 0 };
        Ok(())
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
