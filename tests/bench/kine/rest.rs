//! Waits for a machine at rest, as far as it ever is.

use std::time::{Duration, Instant};

/// What must be idle of all processors, and for how long, before something is measured.
const IDLE: f64 = 0.85;
const FOR: Duration = Duration::from_millis(150);
/// How long is waited for that, from the program's start. On a machine that is always busy it is measured all the same.
static PATIENCE: std::sync::OnceLock<Duration> = std::sync::OnceLock::new();

/// Waits at most so long each time (`--rest SECONDS`).
pub fn allow(patience: Duration) {
    PATIENCE.get_or_init(|| patience);
}

/// Waits until the machine has been at rest for a moment.
pub async fn wait() {
    let started = Instant::now();
    let patience = PATIENCE.get().copied().unwrap_or_default();
    let mut last = processors();
    while started.elapsed() < patience {
        tokio::time::sleep(FOR).await;
        let now = processors();
        let (idle, all) = (now.0 - last.0, now.1 - last.1);
        if idle as f64 >= all as f64 * IDLE {
            return;
        }
        last = now;
    }
}

/// The time processors were idle, and all of their time, in ticks.
fn processors() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().next().expect("a line of all processors");
    let times: Vec<u64> = line.split_whitespace().skip(1).map_while(|time| time.parse().ok()).collect();
    // The fourth is idle, the fifth waiting for a disk.
    (times.iter().skip(3).take(2).sum(), times.iter().sum())
}
