//! Events that nobody will read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Of so many, one is worth a line in the server's own log.
const SAY_EVERY: u64 = 1000;

/// How many events could not be written or delivered.
#[derive(Debug, Default)]
pub(super) struct Lost(AtomicU64);

impl Lost {
    /// Adds some, and says why now and then.
    pub fn add(&self, events: usize, why: &str) {
        let events = events as u64;
        let before = self.0.fetch_add(events, Ordering::Relaxed);
        if before / SAY_EVERY != (before + events) / SAY_EVERY || before == 0 {
            tracing::error!(lost = before + events, why, "audit events are lost");
        }
    }

    /// How many so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
