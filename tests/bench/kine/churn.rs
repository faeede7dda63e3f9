//! Many updates of few keys: files stay small and no update waits long.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use k3s_kine::{
    Datastore,
    sqlite::{Options, Sqlite},
};

use crate::{latency::Latencies, milliseconds, row, server::Local};

const KEYS: usize = 100;
const DATABASE: u64 = 128 << 20;
const WAL: u64 = 32 << 20;
const STALL: Duration = Duration::from_millis(50);

pub async fn run(updates: i64) {
    let local = Local::open(Options::default());
    let left = Arc::new(AtomicI64::new(updates));
    let over = Arc::new(AtomicBool::new(false));
    let sizes = std::thread::spawn({
        let (path, over) = (local.folder.path().join("state.db"), over.clone());
        move || largest(&path, &over)
    });
    let begin = Instant::now();
    let value = Bytes::from(vec![b'x'; 1024]);
    let tasks: Vec<_> = (0..KEYS)
        .map(|n| {
            let (store, left, value) = (local.store.clone(), left.clone(), value.clone());
            tokio::spawn(async move {
                let key = Bytes::from(format!("/registry/leases/{n}"));
                let mut at = store.create(key.clone(), value.clone(), 0).await.expect("create");
                let mut latencies = Latencies::default();
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    let started = Instant::now();
                    at = store.update(key.clone(), at, value.clone(), 0).await.expect("update");
                    latencies.add(started.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.merge(task.await.expect("a client"));
    }
    let time = begin.elapsed();
    over.store(true, Ordering::Relaxed);
    let (database, wal) = sizes.join().expect("the thread that measures files");
    let (p99, worst) = (latencies.within(0.99), latencies.within(1.0));
    let (steps, long) = compaction_steps(&local.store);
    local.close().await;
    row(
        &format!("{updates} updates of 100 keys of 1 KiB, compaction on"),
        "",
        &format!(
            "{:.0}/s, p99 {}, longest {}, file {} MiB, WAL {} MiB; {long} of {steps} compaction steps over 10 ms",
            updates as f64 / time.as_secs_f64(),
            milliseconds(p99),
            milliseconds(worst),
            database >> 20,
            wal >> 20
        ),
        "",
        "≤ 50 ms, ≤ 128 MiB, ≤ 32 MiB",
        worst <= STALL && database <= DATABASE && wal <= WAL,
    );
}

/// How many steps of compaction held the writer, and how many of them for more than 10 ms.
fn compaction_steps(store: &Sqlite) -> (u64, u64) {
    let text = store.metrics().text();
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the histogram of steps");
        line.trim().parse().expect("a number")
    };
    let steps = number("kine_compact_step_seconds_count");
    (steps, steps - number("kine_compact_step_seconds_bucket{le=\"0.01\"}"))
}

/// The largest the database and its WAL become.
fn largest(path: &Path, over: &AtomicBool) -> (u64, u64) {
    let wal = path.with_extension("db-wal");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
    let mut most = (0, 0);
    while !over.load(Ordering::Relaxed) {
        most = (size(path).max(most.0), size(&wal).max(most.1));
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}
