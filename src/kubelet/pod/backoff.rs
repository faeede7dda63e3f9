//! Waiting longer after each failure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Ten seconds doubling to five minutes, forgotten after ten minutes without failure: Kubernetes' delays for restarts
/// and image pulls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff(Option<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

impl Backoff {
    /// How much longer to wait after a failure at `failed`; `None` if it is time.
    pub fn remaining(&self, failed: Timestamp, now: Timestamp) -> Option<Duration> {
        let entry = self.0.as_ref().filter(|entry| failed.duration_since(entry.updated) <= FORGET_AFTER)?;
        let passed = now.duration_since(failed);
        Duration::try_from(SignedDuration::try_from(entry.delay).ok()? - passed).ok().filter(|left| !left.is_zero())
    }

    /// How much longer to wait after the last failure that was counted.
    pub fn remaining_since_update(&self, now: Timestamp) -> Option<Duration> {
        self.remaining(self.0.as_ref()?.updated, now)
    }

    /// Counts a failure at `failed`.
    pub fn count(&mut self, failed: Timestamp, now: Timestamp) {
        let delay = match self.0.as_ref().filter(|entry| failed.duration_since(entry.updated) <= FORGET_AFTER) {
            Some(entry) => (entry.delay * 2).min(MAX),
            None => INITIAL,
        };
        self.0 = Some(Entry { delay, updated: now });
    }

    /// The delay in force.
    pub fn delay(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |entry| entry.delay)
    }
}

/// A duration as Go prints whole seconds: `10s`, `2m40s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn delays_double_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining(at(0), at(0)), None, "the first restart is immediate");
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.count(at(now), at(now));
            assert_eq!(backoff.remaining(at(now), at(now)), Some(Duration::from_secs(expected)));
            assert_eq!(backoff.remaining(at(now), at(now + expected as i64)), None);
            now += expected as i64;
        }
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = Backoff::default();
        backoff.count(at(0), at(0));
        backoff.count(at(10), at(10));
        assert_eq!(backoff.remaining(at(700), at(700)), None);
        backoff.count(at(700), at(700));
        assert_eq!(backoff.delay(), INITIAL);
    }

    #[test]
    fn durations_read_as_in_go() {
        assert_eq!(go_duration(Duration::from_secs(10)), "10s");
        assert_eq!(go_duration(Duration::from_secs(160)), "2m40s");
        assert_eq!(go_duration(Duration::from_secs(300)), "5m0s");
    }
}
