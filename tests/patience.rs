//! Waiting for what will come.

use std::time::{Duration, Instant};

/// Calls `attempt` until it succeeds.
///
/// # Panics
/// When `limit` has passed, with the last failure.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(failure) if Instant::now() >= end => panic!("{what}: not within {limit:?}: {failure}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
