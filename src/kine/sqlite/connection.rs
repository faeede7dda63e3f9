//! Connections to the database file, each with a small page cache.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::failure::Failure;

/// Page caches, in KiB. The kernel keeps the file's pages anyway; these only save system calls.
const WRITER_CACHE: i64 = 1024;
const READER_CACHE: i64 = 512;

/// The WAL file is cut to this size, in bytes, each time it starts anew.
const WAL_LIMIT: i64 = 12 << 20;
/// The size it has from the open on, in bytes, if so many times that is free.
const WAL_START: u64 = 4 << 20;
const FREE: u64 = 16;

/// For programs that look into the file (`sqlite3 state.db`), which hold locks for moments.
const BUSY: Duration = Duration::from_secs(5);

/// Makes the folder (mode 0700), if it isn't there.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::io(folder, "make the datastore's folder", &error))
}

/// Makes the folder (mode 0700) and the file (0600), if they aren't there. A file that others can read, as kine leaves
/// it, is closed to them: it holds every Secret of the cluster.
///
/// Must run before the first connection: closing any descriptor of the file drops the process's POSIX locks on it,
/// SQLite's among them.
pub(super) fn make_file(path: &Path) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder)?;
    }
    let failed = |error: std::io::Error| Failure::io(path, "open the datastore", &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(())
}

/// The one connection that writes.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path, WRITER_CACHE)?;
    if conn.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? == 0 {
        // Only counts before the first page is written.
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    sync_commits(&conn, true)?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |_| Ok(()))?;
    // Checkpoints are made between batches, not inside the commit somebody waits for: see checkpoint.rs.
    conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}

/// Whether a commit is on disk when it returns, as the WAL is synced with it; or else with the next that is, or with the
/// next checkpoint. In either case the WAL is read only as far as it is whole.
pub(super) fn sync_commits(conn: &Connection, synced: bool) -> rusqlite::Result<()> {
    conn.pragma_update(None, "synchronous", if synced { "FULL" } else { "NORMAL" })
}

/// Gives the WAL its length beforehand. To sync writes within a file is half the work of syncing writes that make it
/// longer, as the file system needs no journal for it. Zeros are no frames to SQLite: they end the log.
pub(super) fn lengthen_wal(path: &Path) -> Result<(), Failure> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = PathBuf::from(wal);
    let lengthen = || {
        let mut file = OpenOptions::new().append(true).open(&wal)?;
        let disk = rustix::fs::fstatvfs(&file)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE * WAL_START {
            return Ok(());
        }
        let missing = WAL_START.saturating_sub(file.metadata()?.len());
        std::io::copy(&mut std::io::repeat(0).take(missing), &mut file)?;
        file.sync_all()
    };
    match lengthen() {
        // On a full disk it is slower, no more.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StorageFull) => {
            Err(Failure::io(&wal, "lengthen the WAL", &error))
        }
        _ => Ok(()),
    }
}

/// A connection that only reads. (Not opened read-only: in WAL mode a reader writes its lock into shared memory.)
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path, READER_CACHE)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// A connection for one task that neither writes nor is kept.
pub(super) fn plain(path: &Path) -> rusqlite::Result<Connection> {
    open(path, READER_CACHE)
}

fn open(path: &Path, cache: i64) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    // A plan is made once. SQLite would make it anew for every value that is bound where one of the partial indexes might
    // serve, which is in the statement that every write begins with, and costs as much as the write itself.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "cache_size", -cache)?;
    Ok(conn)
}
