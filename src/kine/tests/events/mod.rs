//! What watches bring.

use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{Datastore, Event, Revision, UNBOUNDED, Watch, WatchBatch};

/// Text as a key or a value.
pub fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// A watch of all keys.
pub async fn all(store: &impl Datastore, after: Revision) -> Watch {
    store.watch(bytes(""), UNBOUNDED, after).await.unwrap()
}

/// The next batch; none if the watch has ended.
pub async fn next(watch: &mut Watch) -> Option<WatchBatch> {
    tokio::time::timeout(Duration::from_secs(30), watch.recv()).await.expect("nothing came")
}

/// The next `count` events.
pub async fn take(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match next(watch).await.expect("the watch ended") {
            WatchBatch::Events(events) => taken.extend(events),
            WatchBatch::Progress(_) => {}
        }
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

pub fn revisions(events: &[Event]) -> Vec<Revision> {
    events.iter().map(Event::revision).collect()
}
