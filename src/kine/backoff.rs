//! Trying again: after a wait that grows, for as long as a request may take.

use std::time::{Duration, Instant};

/// The wait after the first failure; it doubles up to [`PAUSE_MOST`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// Waits between tries.
pub(crate) struct Backoff {
    pause: Duration,
    until: Instant,
}

impl Backoff {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { pause: PAUSE, until: Instant::now() + patience }
    }

    /// How much time there is for another try.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(PAUSE)
    }

    /// Waits before the next try. False if there is no time for one.
    pub(crate) async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause >= self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MOST);
        true
    }
}
