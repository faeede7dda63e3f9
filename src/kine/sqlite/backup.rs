//! Consistent copies of the database while it is in use, and the way back.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::mpsc;

use super::{connection, failure::Failure, lock::Lock, schema};
use crate::{Error, Snapshot};

/// Bytes of a snapshot that are sent at once.
const CHUNK: usize = 256 << 10;
/// The length of the checksum that `etcdctl snapshot save` leaves at the end of the file.
const CHECKSUM: usize = 32;
/// Pages, and so files without a checksum, are a multiple of this.
const SECTOR: u64 = 512;
const PREFIX: &str = "snapshot-";

/// Copies the database `path` into a new file in `folder`, which goes when the value is dropped. Writes and reads go on
/// meanwhile; free pages are left out. The copy has mode 0600.
pub(super) fn copy(path: &Path, folder: &Path) -> Result<NamedTempFile, Failure> {
    let target = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempfile_in(folder)
        .map_err(|error| Failure::io(folder, "make a snapshot", &error))?;
    let failed = |error: rusqlite::Error| Failure::new(target.path(), "make a snapshot", &error);
    let conn = connection::plain(path).map_err(|error| Failure::new(path, "make a snapshot", &error))?;
    // Reads from one snapshot, as any query does.
    conn.execute("VACUUM INTO ?1", [target.path().to_string_lossy()]).map_err(failed)?;
    Ok(target)
}

/// Removes what snapshots left behind that were under way when the process was killed.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Sends a copy of the database piece by piece.
pub(super) fn stream(path: &Path) -> Result<Snapshot, Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error: io::Error| Failure::io(path, "read a snapshot", &error);
    let (mut file, copy) = copy(path, folder)?.into_parts();
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let (sender, chunks) = mpsc::channel(2);
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || send(file, copy, &path, &sender));
    Ok(Snapshot { size, chunks })
}

fn send(mut file: File, copy: TempPath, path: &Path, sender: &mpsc::Sender<Result<Bytes, Error>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk);
        let chunk = match read {
            Ok(0) => break,
            Ok(_) => Ok(chunk.into()),
            Err(error) => Err(Failure::io(path, "read a snapshot", &error).into()),
        };
        let over = chunk.is_err();
        if sender.blocking_send(chunk).is_err() || over {
            break;
        }
    }
    drop(copy);
}

/// Puts a snapshot in the place of the database `database`, which need not be there. What was there is kept beside it,
/// under a name that is returned. The snapshot is a file of [`Sqlite::save`](super::Sqlite::save), of
/// `etcdctl snapshot save`, or any copy of a database that was closed; it stays as it is.
///
/// # Errors
/// [`Error::Corrupt`] if the snapshot is damaged or is no snapshot of such a database, [`Error::InUse`] if a process has
/// the database open, [`Error::NoSpace`] and [`Error::Backend`] for what the file system says. Then nothing has changed.
pub fn restore(snapshot: &Path, database: &Path) -> Result<Option<PathBuf>, Error> {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    connection::make_folder(folder)?;
    let (lock, _) = Lock::take(database)?;
    let failed = |error: io::Error| Failure::io(database, "restore a snapshot", &error);
    let new = unpack(snapshot, folder)?;
    check(new.path(), snapshot)?;
    new.as_file().sync_all().map_err(failed)?;

    let kept = set_aside(database).map_err(failed)?;
    new.persist(database).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    lock.clean();
    Ok(kept)
}

/// Copies the snapshot without its checksum, if it has one and it is right.
fn unpack(snapshot: &Path, folder: &Path) -> Result<NamedTempFile, Failure> {
    let reading = |error: io::Error| Failure::io(snapshot, "read a snapshot", &error);
    let writing = |error: io::Error| Failure::io(folder, "restore a snapshot", &error);
    let mut from = File::open(snapshot).map_err(reading)?;
    let size = from.metadata().map_err(reading)?.len();
    let checksum = size % SECTOR == CHECKSUM as u64;
    let mut left = if checksum { size - CHECKSUM as u64 } else { size };

    let mut to = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).map_err(writing)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let part = &mut chunk[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        from.read_exact(part).map_err(reading)?;
        digest.update(&part);
        to.write_all(part).map_err(writing)?;
        left -= part.len() as u64;
    }
    if checksum {
        let mut expected = [0; CHECKSUM];
        from.read_exact(&mut expected).map_err(reading)?;
        if digest.finalize().as_slice() != expected {
            return Err(no_snapshot(snapshot, "its checksum is another than its content's"));
        }
    }
    Ok(to)
}

/// Looks at every page, and for kine's table.
fn check(copy: &Path, snapshot: &Path) -> Result<(), Failure> {
    let failed = |error: rusqlite::Error| match Failure::new(copy, "check a snapshot", &error) {
        Failure::Corrupt { .. } => no_snapshot(snapshot, &error.to_string()),
        other => other,
    };
    let conn = Connection::open(copy).map_err(failed)?;
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(no_snapshot(snapshot, found.trim()));
    }
    if schema::has_table(&conn).map_err(failed)? { Ok(()) } else { Err(no_snapshot(snapshot, "it has no table kine")) }
}

fn no_snapshot(snapshot: &Path, found: &str) -> Failure {
    let detail = format!("{found}; it can't be restored, take another snapshot");
    Failure::Corrupt { path: snapshot.to_owned(), detail }
}

/// Renames the database and its WAL, which belong together, to a name of this moment.
fn set_aside(database: &Path) -> io::Result<Option<PathBuf>> {
    if !database.try_exists()? {
        return Ok(None);
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let named = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let kept = (0..).map(|n| named(&format!(".old-{}", seconds + n))).find(|path| !path.exists());
    let kept = kept.unwrap_or_else(|| named(".old"));
    for suffix in ["-wal", "-shm"] {
        let mut to = kept.as_os_str().to_owned();
        to.push(suffix);
        match std::fs::rename(named(suffix), to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(database, &kept)?;
    Ok(Some(kept))
}
