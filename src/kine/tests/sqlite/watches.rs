//! Watches of the past, of what happens now, and across the two.

use super::*;

#[tokio::test]
async fn a_watch_brings_past_and_new_events_with_what_was_before() {
    let store = Store::new();
    let created = store.store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let updated = store.store.update(bytes("/a"), created, bytes("2"), 7).await.unwrap();
    store.store.create(bytes("x"), bytes("elsewhere"), 0).await.unwrap();
    let deleted = store.store.delete(bytes("/a"), updated).await.unwrap();
    store.store.create(bytes("/a"), bytes("3"), 0).await.unwrap();

    let below = async |store: &Sqlite, after| store.watch(bytes("/"), bytes("0"), after).await.unwrap();
    let live = take(&mut below(&store.store, 1).await, 4).await;
    let store = store.reopen(Options::default()).await;
    let from_table = take(&mut below(&store.store, 1).await, 4).await;
    assert_eq!(live, from_table);

    let Event::Delete { revision, previous } = &live[2] else { panic!("{live:?}") };
    assert_eq!(*revision, deleted);
    assert_eq!((&previous.value, previous.mod_revision, previous.lease), (&bytes("2"), updated, 7));
    assert!(matches!(&live[1], Event::Put { previous: Some(kv), .. } if kv.value == bytes("1")));
    assert!(matches!(&live[3], Event::Put { previous: None, kv } if kv.create_revision == deleted + 1));

    let mut later = below(&store.store, updated).await;
    assert_eq!(take(&mut later, 2).await, live[2..]);
    store.store.create(bytes("/b"), bytes(""), 0).await.unwrap();
    assert_eq!(take(&mut later, 1).await[0].key(), &bytes("/b"));
    assert!(matches!(store.store.watch(bytes("/"), bytes("0"), 99).await, Err(Error::Future { asked: 99, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_start_while_others_write_miss_nothing_and_repeat_nothing() {
    const WRITES: i64 = 2000;
    let store = std::sync::Arc::new(Store::new());
    let writers: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..WRITES / 8 {
                    store.store.create(bytes(format!("/{task}/{n}")), bytes("v"), 0).await.unwrap();
                }
            })
        })
        .collect();
    let mut watchers = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let current = store.store.current_revision().await.unwrap();
        let after = current - (watchers.len() as i64 * 37) % current;
        let mut watch = all(&store.store, after).await;
        watchers.push(tokio::spawn(async move {
            let events = take(&mut watch, usize::try_from(WRITES + 1 - after).unwrap()).await;
            assert_eq!(revisions(&events), (after + 1..=WRITES + 1).collect::<Vec<_>>());
        }));
        tokio::task::yield_now().await;
        if watchers.len() >= 200 {
            break;
        }
    }
    for task in writers.into_iter().chain(watchers) {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_that_falls_behind_ends_and_the_writer_goes_on() {
    let Store { store, .. } = &Store::with(Options { watch_buffer: 4, ..Options::default() });
    let (mut slow, mut elsewhere) = (all(store, 1).await, store.watch(bytes("x"), bytes("y"), 1).await.unwrap());
    for n in 0..20 {
        store.create(bytes(format!("/{n}")), bytes(""), 0).await.unwrap();
    }
    let mut last = 1;
    while let Some(batch) = next(&mut slow).await {
        let WatchBatch::Events(events) = batch else { continue };
        for event in events {
            assert_eq!(event.revision(), last + 1);
            last = event.revision();
        }
    }
    assert!(last < 21, "it was never dropped");
    // From there it can go on, at its own pace.
    assert_eq!(take(&mut all(store, last).await, usize::try_from(21 - last).unwrap()).await[0].revision(), last + 1);
    store.create(bytes("x"), bytes(""), 0).await.unwrap();
    assert_eq!(take(&mut elsewhere, 1).await[0].revision(), 22);
}

#[tokio::test]
async fn progress_comes_when_asked_for_and_by_itself() {
    let interval = Duration::from_millis(50);
    let Store { store, .. } = &Store::with(Options { progress_interval: interval, ..Options::default() });
    let mut watch = store.watch(bytes("x"), bytes("y"), 1).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(WatchBatch::Progress(1)));
    let revision = store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(WatchBatch::Progress(revision)));

    let Store { store, .. } = &Store::new();
    let mut watch = store.watch(bytes("x"), bytes("y"), 1).await.unwrap();
    let revision = store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    store.request_progress().await.unwrap();
    assert_eq!(next(&mut watch).await, Some(WatchBatch::Progress(revision)));
}

#[tokio::test]
async fn closing_ends_every_watch_and_refuses_every_call() {
    let Store { store, .. } = &Store::new();
    for n in 0..500 {
        store.create(bytes(format!("/{n}")), bytes(""), 0).await.unwrap();
    }
    let (mut live, mut behind) = (all(store, 501).await, all(store, 1).await);
    store.close().await.unwrap();
    assert_eq!(next(&mut live).await, None);
    while next(&mut behind).await.is_some() {}
    assert!(matches!(store.create(bytes("/a"), bytes(""), 0).await, Err(Error::Closed)));
    assert!(matches!(store.get(bytes("/1"), 0).await, Err(Error::Closed)));
    assert!(matches!(store.watch(bytes("/"), bytes("0"), 501).await, Err(Error::Closed)));
    assert!(matches!(store.current_revision().await, Err(Error::Closed)));
    assert!(matches!(store.compact(400).await, Err(Error::Closed)));
    store.close().await.unwrap();
}
