//! Compaction: what stays readable, what it frees, and that it lets writes through.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn the_past_before_a_compaction_is_gone_and_the_rest_as_it_was() {
    let store = Store::new();
    let first = store.store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let second = store.store.update(bytes("/a"), first, bytes("2"), 0).await.unwrap();
    let gone = store.store.create(bytes("/b"), bytes(""), 0).await.unwrap();
    let gone = store.store.delete(bytes("/b"), gone).await.unwrap();
    let third = store.store.update(bytes("/a"), second, bytes("3"), 0).await.unwrap();
    assert!(matches!(store.store.compact(third + 1).await, Err(Error::Future { .. })));
    store.store.compact(gone).await.unwrap();
    store.store.compact(first).await.unwrap();

    let store = store.reopen(Options::default()).await;
    let read = async |revision| store.store.get(bytes("/a"), revision).await.map(|(_, kv)| kv.unwrap().value);
    assert!(matches!(read(gone - 1).await, Err(Error::Compacted { compacted, .. }) if compacted == gone));
    assert_eq!(read(gone).await.unwrap(), bytes("2"));
    assert_eq!(read(0).await.unwrap(), bytes("3"));
    assert_eq!(store.store.get(bytes("/b"), gone).await.unwrap().1, None);
    let refused = store.store.watch(bytes("/"), bytes("0"), gone - 1).await;
    assert!(matches!(refused, Err(Error::Compacted { .. })));
    let events = take(&mut all(&store.store, gone).await, 1).await;
    assert!(matches!(&events[0], Event::Put { previous: Some(kv), .. } if kv.value == bytes("2")));
    let rows: i64 = sql(&store.path()).query_row("SELECT COUNT(*) FROM kine", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3, "the compaction's own, and two of /a");
}

#[tokio::test]
async fn a_deletion_that_was_the_newest_write_goes_with_the_next_compaction() {
    let store = Store::new();
    let created = store.store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    let deleted = store.store.delete(bytes("/a"), created).await.unwrap();
    store.store.compact(deleted).await.unwrap();
    // Kine would take the largest id for the current revision.
    let largest = |path| sql(path).query_row("SELECT MAX(id) FROM kine", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(largest(&store.path()), deleted);
    let store = store.reopen(Options::default()).await;
    assert_eq!(store.store.create(bytes("/a"), bytes(""), 0).await.unwrap(), deleted + 1);
    store.store.compact(deleted + 1).await.unwrap();
    let count = "SELECT COUNT(*) FROM kine WHERE deleted = 1";
    assert_eq!(sql(&store.path()).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_compaction_lets_writes_through_and_the_file_shrinks() {
    let store = Store::new();
    let value = bytes("x".repeat(8000));
    let writes = (0..3000).map(|n| store.store.create(bytes(format!("/{n}")), value.clone(), 0));
    let revisions = join_all(writes).await;
    let deletes = revisions.iter().enumerate().map(|(n, at)| store.store.delete(bytes(format!("/{n}")), *at));
    let last = *join_all(deletes).await.iter().max().unwrap();
    let size = || std::fs::metadata(store.path()).unwrap().len();
    let before = size();

    let compaction = store.store.compact(last);
    tokio::pin!(compaction);
    let (mut through, mut slowest) = (0, Duration::ZERO);
    loop {
        let started = Instant::now();
        tokio::select! {
            biased;
            done = &mut compaction => break done.unwrap(),
            write = store.store.create(bytes(format!("/new/{through}")), bytes(""), 0) => {
                write.unwrap();
                through += 1;
                slowest = slowest.max(started.elapsed());
            }
        }
    }
    println!("{through} writes while {last} revisions were compacted; the slowest took {slowest:?}");
    assert!(through >= 5, "{through} writes got through");
    store.store.close().await.unwrap();
    let store = Store { store: Sqlite::open(&store.path(), Options::default()).unwrap(), folder: store.folder };
    // Vacuuming goes on between writes until only spare pages are left.
    let current = store.store.current_revision().await.unwrap();
    store.store.compact(current).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    while std::fs::metadata(store.path()).unwrap().len() > before / 4 {
        assert!(Instant::now() < deadline, "the file is still as large");
        // The file is cut at checkpoints, which need writes.
        store.store.create(bytes(format!("/later/{n}")), bytes(""), 0).await.unwrap();
        n += 1;
    }
}

#[tokio::test]
async fn it_happens_by_itself_and_keeps_the_newest() {
    let options =
        Options { compact_interval: Some(Duration::from_millis(100)), compact_retain: 10, ..Options::default() };
    let Store { store, .. } = &Store::with(options);
    let mut revision = store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    for _ in 0..50 {
        revision = store.update(bytes("/a"), revision, bytes(""), 0).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.get(bytes("/a"), revision - 11).await.is_ok() {
        assert!(Instant::now() < deadline, "nothing was compacted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.get(bytes("/a"), revision - 10).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_stays_short_under_steady_writes_and_reads() {
    let store = std::sync::Arc::new(Store::new());
    let value = bytes("x".repeat(20_000));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store.store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap();
                }
            })
        })
        .collect();
    let (mut revision, mut longest) = (store.store.create(bytes("/a"), value.clone(), 0).await.unwrap(), 0);
    let wal = store.folder.path().join("state.db-wal");
    for _ in 0..1500 {
        revision = store.store.update(bytes("/a"), revision, value.clone(), 0).await.unwrap();
        longest = longest.max(std::fs::metadata(&wal).unwrap().len());
    }
    for reader in readers {
        reader.abort();
    }
    assert!(longest < 24 << 20, "the WAL grew to {longest} bytes");
}

async fn join_all(writes: impl Iterator<Item = impl Future<Output = Result<Revision, Error>>>) -> Vec<Revision> {
    // All at once: they share a few transactions.
    let mut pending: Vec<_> = writes.map(Box::pin).collect();
    let mut done = vec![None; pending.len()];
    std::future::poll_fn(|context| {
        for (write, done) in pending.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(answer) = write.as_mut().poll(context)
            {
                *done = Some(answer.unwrap());
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
