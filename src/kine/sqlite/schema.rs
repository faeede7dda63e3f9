//! Kine's table, and what this implementation adds to it.
//!
//! A row of `kine` is a write: `id` its revision, `name` the key, `prev_revision` the row it supersedes (0: none, or
//! none left). `created` and `deleted` are flags; `create_revision` is 0 in the row that creates, since it is the row's
//! own id. `lease` is a time to live in seconds. The row named `compact_rev_key` holds in `prev_revision` how far the
//! history is compacted. Rows named `gap-…` are revisions that kine skipped.
//! Source: <https://github.com/k3s-io/kine/blob/master/pkg/drivers/sqlite/sqlite.go>.
//!
//! Kine keeps each value three times: in its row, in the `old_value` of the row that supersedes it, and in a deletion's
//! row. Here it is kept once: the superseded row is always there as long as the event may be asked for, since
//! compaction removes it no sooner. Both forms are read.
//!
//! `kine_lease` holds when a leased row ends. Rows that kine wrote have none; they get one when the file is opened.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::failure::Failure;
use crate::Revision;

/// The key of the row that remembers the compaction.
pub(super) const COMPACT_REV_KEY: &str = "compact_rev_key";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS kine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER, create_revision INTEGER,
    prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id);
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id, deleted);
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted);
CREATE INDEX IF NOT EXISTS kine_lease_index ON kine (id) WHERE lease > 0;
CREATE TABLE IF NOT EXISTS kine_lease (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS kine_lease_expires_index ON kine_lease (expires);";

/// After an unclean end, a file up to this size, in bytes, is checked in full; it takes some tens of milliseconds. A
/// kill can't damage the file, only storage that lies can, so a larger one is not worth the longer start: damage in it
/// shows when it is read.
const CHECK_LIMIT: i64 = 32 << 20;

/// Where the history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) current: Revision,
    pub(super) compacted: Revision,
}

/// Makes what is missing, and finds where the history stands.
pub(super) fn prepare(conn: &mut Connection) -> rusqlite::Result<Position> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(SCHEMA)?;
    continue_sequence(&tx)?;
    one_compact_row(&tx)?;
    let position = position(&tx)?;
    tx.commit()?;
    Ok(position)
}

/// The position in the snapshot that `conn` reads.
pub(super) fn position(conn: &Connection) -> rusqlite::Result<Position> {
    // Not MAX(id): the row of the newest revision may be gone, the sequence never goes back.
    let current = conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'kine'")?
        .query_row([], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let compacted: Option<Revision> = conn
        .prepare_cached("SELECT MAX(prev_revision) FROM kine WHERE name = ?1")?
        .query_row([COMPACT_REV_KEY], |row| row.get(0))?;
    Ok(Position { current, compacted: compacted.unwrap_or(0) })
}

/// A copy of the table made by hand may come without its sequence.
fn continue_sequence(conn: &Connection) -> rusqlite::Result<()> {
    let newest: Option<Revision> = conn.query_row("SELECT MAX(id) FROM kine", [], |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(()) };
    if position(conn)?.current < newest {
        conn.execute("DELETE FROM sqlite_sequence WHERE name = 'kine'", [])?;
        conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('kine', ?1)", [newest])?;
    }
    Ok(())
}

/// There is exactly one row for the compaction; old versions of kine could make two.
fn one_compact_row(conn: &Connection) -> rusqlite::Result<()> {
    let row: Option<Revision> = conn
        .query_row("SELECT id FROM kine WHERE name = ?1 ORDER BY prev_revision DESC", [COMPACT_REV_KEY], |row| {
            row.get(0)
        })
        .optional()?;
    match row {
        Some(id) => conn.execute("DELETE FROM kine WHERE name = ?1 AND id != ?2", (COMPACT_REV_KEY, id))?,
        None => conn.execute(
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value)
             VALUES (?1, 1, 0, 0, 0, 0, x'')",
            [COMPACT_REV_KEY],
        )?,
    };
    Ok(())
}

/// Looks for damage, if the file is small enough for that.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<(), Failure> {
    let failed = |error: rusqlite::Error| Failure::new(path, "check the datastore", &error);
    let size: i64 = conn
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))
        .map_err(failed)?;
    if size > CHECK_LIMIT {
        return Ok(());
    }
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found == "ok" { Ok(()) } else { Err(Failure::corrupt(path, found.trim())) }
}

/// Gives a file that kine made the page layout that lets it shrink. Costs one rewrite of the file, once.
pub(super) fn let_shrink(conn: &Connection, path: &Path) {
    let convert = || -> rusqlite::Result<bool> {
        if conn.query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))? != 0 {
            return Ok(false);
        }
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        conn.execute_batch("VACUUM")?;
        Ok(true)
    };
    match convert() {
        Ok(true) => tracing::info!(path = %path.display(), "rewrote the datastore so that it can shrink"),
        Ok(false) => {}
        // Most likely there is no space for a second copy. It works as it is, it only never shrinks.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot rewrite the datastore so that it can shrink")
        }
    }
}
