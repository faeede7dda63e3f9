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
//! What is added, which kine does not see since it names the columns it wants: `version` (how often the key was written
//! since it was created; none in kine's rows, see `version!`) and `lease_id` (the granted lease that the key is
//! attached to; then `lease` is its time to live, so that kine would end the key after that). `kine_lease` holds when a
//! row with a time to live ends. Rows that kine wrote have none; they get one when the file is opened.
//! `kine_lease_grant` holds the granted leases.
//!
//! Of kine's seven indexes one is kept. The others cost two thirds of the time of a write and nothing here uses them;
//! kine makes what is missing when it starts.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::failure::Failure;
use crate::Revision;
pub(super) use crate::{table::COMPACT_REV_KEY, watch::Position};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS kine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER, deleted INTEGER, create_revision INTEGER,
    prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted);
CREATE INDEX IF NOT EXISTS kine_lease_index ON kine (id) WHERE lease > 0;
CREATE TABLE IF NOT EXISTS kine_lease (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS kine_lease_expires_index ON kine_lease (expires);
CREATE TABLE IF NOT EXISTS kine_lease_grant (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL);";

/// The columns that are added to kine's.
const COLUMNS: [&str; 2] = ["version", "lease_id"];

const LEASE_ID_INDEX: &str = "CREATE INDEX IF NOT EXISTS kine_lease_id_index ON kine (lease_id) WHERE lease_id > 0";

/// Kine's indexes that cost more than they bring.
const UNUSED: &str = "
DROP INDEX IF EXISTS kine_name_index;
DROP INDEX IF EXISTS kine_name_id_index;
DROP INDEX IF EXISTS kine_id_deleted_index;
DROP INDEX IF EXISTS kine_prev_revision_index;
DROP INDEX IF EXISTS kine_name_prev_revision_uindex;";

/// The version of the row of that alias, for a query. In kine's rows it is counted: what compaction has left of the
/// key's rows.
macro_rules! version {
    ($row:literal) => {
        concat!(
            "COALESCE(",
            $row,
            ".version, CASE WHEN ",
            $row,
            ".created THEN 1 ELSE (",
            "SELECT COUNT(*) FROM kine AS v INDEXED BY kine_list_query_index WHERE v.name = ",
            $row,
            ".name AND v.id >= ",
            $row,
            ".create_revision AND v.id <= ",
            $row,
            ".id) END)"
        )
    };
}
pub(super) use version;

/// After an unclean end, a file up to this size, in bytes, is checked in full; it takes some tens of milliseconds. A
/// kill can't damage the file, only storage that lies can, so a larger one is not worth the longer start: damage in it
/// shows when it is read.
const CHECK_LIMIT: i64 = 32 << 20;

/// Makes what is missing, and finds where the history stands.
pub(super) fn prepare(conn: &mut Connection) -> rusqlite::Result<Position> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(SCHEMA)?;
    for column in COLUMNS {
        let there = "SELECT COUNT(*) FROM pragma_table_info('kine') WHERE name = ?1";
        if tx.query_row(there, [column], |row| row.get::<_, i64>(0))? == 0 {
            tx.execute_batch(&format!("ALTER TABLE kine ADD COLUMN {column} INTEGER"))?;
        }
    }
    tx.execute_batch(LEASE_ID_INDEX)?;
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

/// Whether the table is there.
pub(super) fn has_table(conn: &Connection) -> rusqlite::Result<bool> {
    let count = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'kine'";
    conn.query_row(count, [], |row| row.get::<_, i64>(0)).map(|count| count > 0)
}

/// How many pages the file has, how many of them are free, and the size of one in bytes.
pub(super) fn pages(conn: &Connection) -> rusqlite::Result<(u64, u64, u64)> {
    let pragma = |sql| -> rusqlite::Result<u64> {
        let number: i64 = conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    };
    Ok((pragma("PRAGMA page_count")?, pragma("PRAGMA freelist_count")?, pragma("PRAGMA page_size")?))
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

/// Drops the indexes of kine that nothing here uses.
pub(super) fn drop_unused(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(UNUSED)
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
