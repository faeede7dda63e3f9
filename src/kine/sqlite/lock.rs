//! The lock file beside the database: one process at a time, and a note of how the last one ended.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use super::failure::Failure;

/// How long a process that was killed may take to be gone: it holds the lock until its memory is given back.
const PATIENCE: Duration = Duration::from_secs(3);

/// An exclusive `flock` on `<database>.lock`, held until this is dropped or the process ends. SQLite's own locks can't
/// do this: they let several processes share a WAL database. The file holds the owner's process id while in use and
/// nothing after a clean end.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock for `database`, waiting a moment for an owner that is about to be gone. The second value says whether the previous owner was killed or lost power.
    pub(super) fn take(database: &Path) -> Result<(Self, bool), Failure> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |error: std::io::Error| Failure::io(&path, "lock the datastore", &error);

        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let began = Instant::now();
        let mut locked = file.try_lock();
        while matches!(locked, Err(TryLockError::WouldBlock)) && began.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20));
            locked = file.try_lock();
        }
        let mut owner = String::new();
        file.read_to_string(&mut owner).map_err(failed)?;
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let detail = format!("process {} holds {}; stop it first", owner.trim(), path.display());
                return Err(Failure::InUse { path: database.to_owned(), detail });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let unclean = !owner.trim().is_empty();
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // On a full disk the note is lost, not the lock: the datastore must open for reading.
        if let Err(error) = writeln!(file, "{}", std::process::id()) {
            tracing::warn!(path = %path.display(), %error, "cannot note the owner in the lock file");
        }
        Ok((Lock { file, path }, unclean))
    }

    /// Notes that the database was closed in order.
    pub(super) fn clean(&self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(path = %self.path.display(), %error, "cannot note the clean end in the lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_is_refused_and_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("state.db");
        let (first, unclean) = Lock::take(&database).unwrap();
        assert!(!unclean);
        let Err(Failure::InUse { detail, .. }) = Lock::take(&database) else { panic!("locked twice") };
        assert!(detail.contains(&std::process::id().to_string()), "{detail}");

        let killed = std::thread::spawn(move || {
            sleep(Duration::from_millis(100));
            drop(first); // as if killed
        });
        let (second, unclean) = Lock::take(&database).unwrap();
        assert!(unclean);
        killed.join().unwrap();
        second.clean();
        drop(second);
        assert!(!Lock::take(&database).unwrap().1);
    }
}
