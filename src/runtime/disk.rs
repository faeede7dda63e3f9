//! How much room directories take on disk: measured when somebody asks, and not more often than it pays.
//!
//! Whoever asks gets what was measured last; where that is old, it is measured anew in the background, for who asks next.
//! So asking costs nothing, and not asking neither.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k3s_cri::Nanos;
use parking_lot::Mutex;

use crate::shim::clock;
use crate::snapshot;

/// How old a measurement may become: that of containerd, which measures that often whether asked or not.
const FRESH: Duration = Duration::from_secs(10);

/// What a directory takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub timestamp: Nanos,
    pub bytes: u64,
    pub inodes: u64,
}

#[derive(Clone, Copy)]
struct Measured {
    usage: Usage,
    at: Instant,
    /// Somebody measures it at this moment.
    again: bool,
}

/// Directories and what they take.
#[derive(Clone, Default)]
pub(crate) struct DiskUsage(Arc<Mutex<HashMap<PathBuf, Measured>>>);

impl DiskUsage {
    /// What a directory takes, whose content changes. Must be called where blocking is fine: the first time it is measured
    /// at once.
    pub(crate) fn of(&self, directory: &Path) -> io::Result<Usage> {
        self.within(FRESH, directory)
    }

    /// As [`DiskUsage::of`], for a directory whose content never changes.
    pub(crate) fn of_fixed(&self, directory: &Path) -> io::Result<Usage> {
        self.within(Duration::MAX, directory)
    }

    fn within(&self, fresh: Duration, directory: &Path) -> io::Result<Usage> {
        let known = {
            let mut all = self.0.lock();
            all.get_mut(directory).map(|known| {
                let old = known.at.elapsed() >= fresh && !known.again;
                known.again |= old;
                (known.usage, old)
            })
        };
        match known {
            Some((usage, false)) => Ok(usage),
            Some((usage, true)) => {
                let (all, directory) = (self.clone(), directory.to_owned());
                tokio::task::spawn_blocking(move || match all.measure(&directory) {
                    Ok(_) => {}
                    // It is asked for again, and then whoever asks is told.
                    Err(_) => all.forget(&directory),
                });
                Ok(usage)
            }
            None => self.measure(directory),
        }
    }

    fn measure(&self, directory: &Path) -> io::Result<Usage> {
        let (bytes, inodes) = snapshot::disk_usage(directory)?;
        let usage = Usage { timestamp: clock::now(), bytes, inodes };
        self.0.lock().insert(directory.to_owned(), Measured { usage, at: Instant::now(), again: false });
        Ok(usage)
    }

    /// The directory is no more.
    pub(crate) fn forget(&self, directory: &Path) {
        self.0.lock().remove(directory);
    }

    /// Directories that are gone are forgotten.
    pub(crate) fn forget_missing(&self) {
        self.0.lock().retain(|directory, _| directory.exists());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_measured_is_told_again_and_measured_anew_when_it_is_old() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), vec![7; 10_000]).unwrap();
        let usage = DiskUsage::default();
        let first = usage.of(directory.path()).unwrap();
        assert_eq!(first.inodes, 2);
        assert!((10_000..50_000).contains(&first.bytes), "{first:?}");
        std::fs::write(directory.path().join("b"), "").unwrap();
        assert_eq!(usage.of(directory.path()).unwrap(), first, "it is not measured twice within a moment");
        assert_eq!(usage.of_fixed(directory.path()).unwrap(), first);
        assert_eq!(usage.within(Duration::ZERO, directory.path()).unwrap(), first, "who asks does not wait");
        let began = Instant::now();
        while usage.of(directory.path()).unwrap().inodes != 3 {
            assert!(began.elapsed() < Duration::from_secs(10), "it is not measured anew");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        usage.forget(directory.path());
        assert!(usage.0.lock().is_empty());
    }
}
