//! Files that are replaced while the server runs: tokens and certificates that somebody renews.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use parking_lot::Mutex;

/// What was made of some files, made anew when one of them is another than before.
pub(super) struct Reread<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, super::KubeconfigError> + Send + Sync>,
    known: Mutex<(Vec<Option<Version>>, T)>,
}

/// Tells a file from the one that was there before: its inode, size, and when it was written, in seconds and nanoseconds.
type Version = (u64, u64, i64, i64);

impl<T: Clone> Reread<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// If that can't be done.
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, super::KubeconfigError> + Send + Sync + 'static,
    ) -> Result<Self, super::KubeconfigError> {
        // Before they are read: what comes meanwhile is then read again.
        let versions = versions(&files);
        let made = make()?;
        Ok(Self { files, make: Box::new(make), known: Mutex::new((versions, made)) })
    }

    /// As it is now. If the files can't be used, for somebody may be writing them, it stays what it was.
    pub fn get(&self) -> T {
        let mut known = self.known.lock();
        let versions = versions(&self.files);
        if known.0 != versions {
            match (self.make)() {
                Ok(made) => *known = (versions, made),
                Err(error) => tracing::warn!(%error, "what has been read before is used on"),
            }
        }
        known.1.clone()
    }
}

impl<T> fmt::Debug for Reread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reread").field("files", &self.files).finish_non_exhaustive()
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    let version = |file: &PathBuf| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
    };
    files.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::KubeconfigError;

    #[test]
    fn a_file_is_read_again_when_it_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one").unwrap();
        let path = file.clone();
        let token = Reread::new(vec![file.clone()], move || {
            std::fs::read_to_string(&path).map_err(|source| KubeconfigError::Read { path: path.clone(), source })
        })
        .unwrap();
        assert_eq!(token.get(), "one");
        let next = folder.path().join("next");
        std::fs::write(&next, "two").unwrap();
        std::fs::rename(&next, &file).unwrap();
        assert_eq!(token.get(), "two");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(token.get(), "two", "what was good stays good");
    }
}
