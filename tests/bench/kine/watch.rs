//! 1,000 watches while 1,000 events a second happen: all on one prefix, and each on its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use k3s_kine::{Datastore, Event, Watch, WatchBatch, sqlite::Options};

use crate::{latency::Latencies, milliseconds, row, server::Local};

const WATCHES: usize = 1000;
const EVENTS: u32 = 1000;
const LIMIT: Duration = Duration::from_millis(20);

pub async fn run(time: Duration) {
    for shared in [false, true] {
        let local = Local::open(Options::default());
        let begin = Instant::now();
        let count = usize::try_from(time.as_secs()).unwrap_or(1) * EVENTS as usize;
        let each = if shared { count } else { count / WATCHES };
        let mut tasks = Vec::new();
        for n in 0..WATCHES {
            let prefix = if shared { "/watched/".to_owned() } else { format!("/watched/{n}/") };
            let end = format!("{}0", prefix.trim_end_matches('/'));
            let watch = local.store.watch(prefix.into(), end.into(), 1).await.expect("a watch");
            tasks.push(tokio::spawn(receive(watch, each, begin)));
        }
        produce(&local.store, count, begin).await;
        let mut latencies = Latencies::default();
        let mut missed = 0;
        for task in tasks {
            let received = task.await.expect("a watch");
            missed += each - received.count();
            latencies.merge(received);
        }
        let (p50, p99) = (latencies.within(0.5), latencies.within(0.99));
        row(
            &format!(
                "1,000 watches of {}, 1,000 events a second",
                if shared { "the same keys" } else { "keys of their own" }
            ),
            "",
            &format!("p50 {}, p99 {}, {missed} missed", milliseconds(p50), milliseconds(p99)),
            "",
            "p99 < 20 ms, 0 missed",
            p99 < LIMIT && missed == 0,
        );
    }
}

/// Writes at a steady rate; the value says when.
async fn produce(store: &Arc<k3s_kine::sqlite::Sqlite>, count: usize, begin: Instant) {
    let started = Instant::now();
    let mut writes = Vec::new();
    for n in 0..count {
        let due = started + Duration::from_secs(1) / EVENTS * u32::try_from(n).unwrap_or(0);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            tokio::time::sleep(early).await;
        }
        let store = store.clone();
        writes.push(tokio::spawn(async move {
            let now = u64::try_from(begin.elapsed().as_micros()).unwrap_or(0);
            let value = Bytes::copy_from_slice(&now.to_be_bytes());
            store.create(format!("/watched/{}/{n}", n % WATCHES).into(), value, 0).await.expect("create");
        }));
    }
    for write in writes {
        write.await.expect("a write");
    }
}

async fn receive(mut watch: Watch, count: usize, begin: Instant) -> Latencies {
    let mut latencies = Latencies::default();
    while latencies.count() < count {
        let Ok(Some(batch)) = tokio::time::timeout(Duration::from_secs(5), watch.recv()).await else { break };
        let WatchBatch::Events(events) = batch else { continue };
        let now = begin.elapsed();
        for event in events {
            let Event::Put { kv, .. } = event else { continue };
            let then = kv.value.as_ref().try_into().map_or(0, u64::from_be_bytes);
            latencies.add(now.saturating_sub(Duration::from_micros(then)));
        }
    }
    latencies
}
