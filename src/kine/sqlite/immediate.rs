//! A transaction that writes, by statements that are prepared once: two of them are part of every commit.

use std::ops::Deref;

use rusqlite::Connection;

/// From `BEGIN IMMEDIATE` to `COMMIT`; taken back if it is dropped before.
pub(super) struct Immediate<'a>(&'a Connection);

impl<'a> Immediate<'a> {
    pub(super) fn begin(conn: &'a Connection) -> rusqlite::Result<Self> {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(conn))
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        // If it fails, the drop takes back what is left of it.
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Deref for Immediate<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Immediate<'_> {
    fn drop(&mut self) {
        // SQLite takes some transactions back by itself.
        if self.0.is_autocommit() {
            return;
        }
        if let Err(error) = self.0.execute_batch("ROLLBACK") {
            tracing::error!(%error, "cannot roll back; every write will be refused");
        }
    }
}
