//! Transactions of several conditions and operations, versions, and granted leases.

use k3s_kine::{Compare, KeyValue, Operator, Target, Txn, TxnOp, TxnResult};

use super::*;

fn compare(key: &str, operator: Operator, target: Target) -> Compare {
    Compare { start: bytes(key), end: bytes(format!("{key}\0")), operator, target }
}

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::Put { key: bytes(key), value: Some(bytes(value)), lease: Some(0) }
}

fn leased(key: &str, id: i64) -> Txn {
    let put = TxnOp::Put { key: bytes(key), value: Some(bytes("v")), lease: Some(id) };
    Txn { success: vec![put], ..Txn::default() }
}

fn get(key: &str) -> TxnOp {
    TxnOp::Range { start: bytes(key), end: bytes(format!("{key}\0")), limit: 0, revision: 0 }
}

async fn key(store: &Sqlite, key: &str) -> Option<KeyValue> {
    store.get(bytes(key), 0).await.unwrap().1
}

#[tokio::test]
async fn conditions_choose_what_is_done_and_each_operation_sees_those_before() {
    let Store { store, .. } = &Store::new();
    let mut watch = all(store, 1).await;
    let txn = Txn {
        compare: vec![compare("/a", Operator::Equal, Target::Version(0))],
        success: vec![
            put("/a", "1"),
            put("/b", "2"),
            get("/a"),
            TxnOp::Delete { start: bytes("/a"), end: bytes("/b") },
            get("/a"),
        ],
        failure: vec![get("/a"), get("/b")],
    };
    let done = store.txn(txn.clone()).await.unwrap();
    assert!(done.succeeded);
    assert_eq!(done.revision, 4, "each write has its revision: two puts, one deletion");
    assert!(
        matches!(&done.results[2], TxnResult::Range(range) if range.kvs[0].value == bytes("1") && range.count == 1)
    );
    assert!(matches!(&done.results[3], TxnResult::Delete { previous } if previous[0].mod_revision == 2));
    assert!(matches!(&done.results[4], TxnResult::Range(range) if range.count == 0));
    let revisions: Vec<_> = take(&mut watch, 3).await.iter().map(Event::revision).collect();
    assert_eq!(revisions, [2, 3, 4]);

    store.create(bytes("/a"), bytes("again"), 0).await.unwrap();
    let other = store.txn(txn).await.unwrap();
    assert!(!other.succeeded);
    assert_eq!(other.revision, 5, "reading makes no revision");
    assert_eq!(other.results.len(), 2);
}

#[tokio::test]
async fn a_transaction_that_is_refused_half_way_leaves_no_trace() {
    let Store { store, .. } = &Store::new();
    let txn = Txn {
        success: vec![put("/a", "1"), TxnOp::Put { key: bytes("/b"), value: None, lease: Some(0) }],
        ..Txn::default()
    };
    assert!(matches!(store.txn(txn).await, Err(Error::KeyNotFound { key }) if key == "/b"));
    assert_eq!(store.current_revision().await.unwrap(), 1);
    assert_eq!(key(store, "/a").await, None);
    assert_eq!(store.create(bytes("/a"), bytes(""), 0).await.unwrap(), 2);
    let txn = Txn {
        success: vec![get("/a"), TxnOp::Range { start: bytes("/"), end: bytes("0"), limit: 0, revision: 9 }],
        ..Txn::default()
    };
    assert!(matches!(store.txn(txn).await, Err(Error::Future { asked: 9, current: 2 })));
}

#[tokio::test]
async fn versions_count_the_writes_since_the_creation() {
    let store = Store::new();
    let version = async |store: &Sqlite| key(store, "/a").await.map(|kv| kv.version);
    for expected in 1..=3 {
        store.store.txn(Txn { success: vec![put("/a", "v")], ..Txn::default() }).await.unwrap();
        assert_eq!(version(&store.store).await, Some(expected));
    }
    // What is compacted counts.
    store.store.compact(4).await.unwrap();
    let store = store.reopen(Options::default()).await;
    let at = store.store.update(bytes("/a"), 4, bytes(""), 0).await.unwrap();
    assert_eq!(version(&store.store).await, Some(4));
    let at = store.store.delete(bytes("/a"), at).await.unwrap();
    store.store.create(bytes("/a"), bytes(""), 0).await.unwrap();
    assert_eq!(version(&store.store).await, Some(1));
    let mut past = all(&store.store, at - 2).await;
    let events = take(&mut past, 3).await;
    assert!(matches!(&events[0], Event::Put { kv, previous: Some(was) } if (kv.version, was.version) == (4, 3)));
    assert!(matches!(&events[1], Event::Delete { previous, .. } if previous.version == 4));
}

#[tokio::test]
async fn what_a_put_does_not_give_it_keeps() {
    let Store { store, .. } = &Store::new();
    let lease = store.lease_grant(0, 60).await.unwrap();
    store.txn(leased("/a", lease.id)).await.unwrap();
    let keep = |value: Option<&str>, lease| {
        let put = TxnOp::Put { key: bytes("/a"), value: value.map(bytes), lease };
        store.txn(Txn { success: vec![put], ..Txn::default() })
    };
    keep(Some("new"), None).await.unwrap();
    let kv = key(store, "/a").await.unwrap();
    assert_eq!((kv.value, kv.lease), (bytes("new"), lease.id));
    keep(None, Some(0)).await.unwrap();
    let kv = key(store, "/a").await.unwrap();
    assert_eq!((kv.value, kv.lease), (bytes("new"), 0));
    assert_eq!(store.lease_keys(lease.id).await.unwrap(), [] as [Bytes; 0]);
}

#[tokio::test]
async fn a_lease_takes_its_keys_with_it_when_it_is_revoked() {
    let Store { store, .. } = &Store::new();
    let lease = store.lease_grant(77, 60).await.unwrap();
    assert_eq!((lease.id, lease.ttl), (77, 60));
    assert!(matches!(store.lease_grant(77, 5).await, Err(Error::LeaseExists { id: 77 })));
    assert!(matches!(store.lease_grant(0, i64::MAX).await, Err(Error::LeaseTooLong { .. })));
    for name in ["/b", "/a", "/c"] {
        store.txn(leased(name, 77)).await.unwrap();
    }
    // Written again without it, it is the key's no more.
    store.txn(Txn { success: vec![put("/c", "")], ..Txn::default() }).await.unwrap();
    assert_eq!(store.lease_keys(77).await.unwrap(), ["/a", "/b"].map(bytes));
    assert_eq!(store.leases().await.unwrap(), [77]);
    let before = store.current_revision().await.unwrap();
    assert_eq!(store.lease_revoke(77).await.unwrap(), before + 2);
    assert_eq!(store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap().kvs[0].key, bytes("/c"));
    assert!(matches!(store.lease_revoke(77).await, Err(Error::LeaseNotFound { id: 77 })));
    assert!(matches!(store.lease_keep_alive(77).await, Err(Error::LeaseNotFound { id: 77 })));
    assert!(matches!(store.txn(leased("/a", 77)).await, Err(Error::LeaseNotFound { id: 77 })));
}

#[tokio::test]
async fn a_lease_ends_with_its_keys_unless_it_is_kept_alive_also_across_an_open() {
    let store = Store::new();
    let (short, kept, long) = (1, 2, 3);
    for (id, ttl) in [(short, 1), (kept, 1), (long, 3600)] {
        store.store.lease_grant(id, ttl).await.unwrap();
        store.store.txn(leased(&format!("/{id}"), id)).await.unwrap();
    }
    let store = store.reopen(Options::default()).await;
    assert_eq!(key(&store.store, "/1").await.unwrap().lease, short);
    let mut watch = all(&store.store, 4).await;
    let ended = loop {
        tokio::select! {
            events = take(&mut watch, 1) => break events,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                assert_eq!(store.store.lease_keep_alive(kept).await.unwrap().ttl, 1);
            }
        }
    };
    assert!(
        matches!(&ended[0], Event::Delete { previous, .. } if previous.key == bytes("/1") && previous.lease == short)
    );
    assert!(matches!(store.store.lease_time_to_live(short).await, Err(Error::LeaseNotFound { .. })));
    let remaining = store.store.lease_time_to_live(long).await.unwrap().remaining;
    assert!(remaining > Duration::from_secs(3500), "{remaining:?}");
    assert_eq!(take(&mut watch, 1).await[0].key(), &bytes("/2"), "nobody keeps it alive any more");
    assert!(key(&store.store, "/3").await.is_some());
}

#[tokio::test]
async fn it_tells_how_it_is_and_gives_space_back() {
    let Store { store, .. } = &Store::new();
    let value = bytes("x".repeat(100_000));
    let mut at = store.create(bytes("/a"), value.clone(), 0).await.unwrap();
    for _ in 0..50 {
        at = store.update(bytes("/a"), at, value.clone(), 0).await.unwrap();
    }
    store.compact(at).await.unwrap();
    let status = store.status().await.unwrap();
    assert_eq!((status.revision, status.compacted), (at, at));
    assert!(status.size > 2_000_000 && status.size_in_use < 500_000, "{status:?}");
    store.defragment().await.unwrap();
    let after = store.status().await.unwrap();
    assert!(after.size < 500_000, "{after:?}");
    assert_eq!(store.count(bytes("/"), bytes("0"), 0).await.unwrap(), (at, 1));
}
