//! A file of somebody else's is refused before anything in it is changed.

use std::path::Path;

use rusqlite::Connection;

use crate::Error;

/// The columns of kine's table.
const COLUMNS: [&str; 9] =
    ["id", "name", "created", "deleted", "create_revision", "prev_revision", "lease", "value", "old_value"];

/// Refuses a file with a table `kine` that is not kine's. One without such a table gets it.
pub(super) fn refuse(conn: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |error: rusqlite::Error| super::Failure::new(path, "look at the tables", &error);
    let there = || -> rusqlite::Result<Vec<String>> {
        conn.prepare("SELECT name FROM pragma_table_info('kine')")?.query_map([], |row| row.get(0))?.collect()
    };
    let there = there().map_err(failed)?;
    let missing = COLUMNS.iter().find(|column| !there.iter().any(|name| name == *column));
    match missing.filter(|_| !there.is_empty()) {
        Some(missing) => Err(Error::Schema {
            server: path.display().to_string(),
            detail: format!("the table \"kine\" has no column \"{missing}\""),
        }),
        None => Ok(()),
    }
}
