//! Several servers on one cluster, transactions, compaction.

use k3s_kine::{Compare, Operator, Target, Txn, TxnOp, TxnResult};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_share_a_history() {
    let cluster = Cluster::start(1);
    let (one, two) = tokio::join!(open(&cluster), open(&cluster));
    let begun = one.current_revision().await.unwrap();
    let mut watch = all(&two, begun).await;
    for n in 1..=20 {
        let revision = one.create(bytes(format!("/at-once/{n}")), bytes("v"), 0).await.unwrap();
        assert_eq!(revision, begun + n);
        // Who was told of a revision can watch from it, wherever.
        all(&two, revision).await;
        assert_eq!(two.get(bytes(format!("/at-once/{n}")), 0).await.unwrap().0, revision);
        assert_eq!(revisions(&take(&mut watch, 1).await), [revision]);
    }
    one.close().await.unwrap();
    assert!(matches!(one.get(bytes("/a"), 0).await, Err(Error::Closed)));
    assert!(matches!(one.create(bytes("/a"), bytes(""), 0).await, Err(Error::Closed)));
    two.close().await.unwrap();
    assert_eq!(watch.recv().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_compacts_is_gone_for_all() {
    let cluster = Cluster::start(1);
    let (one, two) = tokio::join!(open(&cluster), open(&cluster));
    let begun = one.create(bytes("/often"), bytes(""), 0).await.unwrap();
    assert_eq!(two.status().await.unwrap().compacted, 0);
    let mut at = begun;
    for n in 0..300 {
        at = one.update(bytes("/often"), at, bytes(n.to_string()), 0).await.unwrap();
    }
    one.compact(at - 1).await.unwrap();
    // It is so already.
    one.compact(at - 5).await.unwrap();
    assert!(
        matches!(one.compact(at + 1).await, Err(Error::Future { asked, current }) if (asked, current) == (at + 1, at))
    );
    for store in [&one, &two] {
        let refused = [
            store.get(bytes("/often"), at - 2).await.map(drop),
            store.range(bytes("/"), bytes("0"), 0, at - 2).await.map(drop),
            store.count(bytes("/"), bytes("0"), at - 2).await.map(drop),
            store.watch(bytes("/"), bytes("0"), begun).await.map(drop),
            store.watch(bytes("/"), bytes("0"), 0).await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(&refused, Err(Error::Compacted { compacted, .. }) if *compacted == at - 1), "{refused:?}");
        }
        assert_eq!(store.status().await.unwrap().compacted, at - 1);
        assert_eq!(store.get(bytes("/often"), at - 1).await.unwrap().1.unwrap().mod_revision, at - 1);
        assert_eq!(revisions(&take(&mut all(store, at - 1).await, 1).await), [at]);
    }
    assert!(matches!(two.watch(bytes("/"), bytes("0"), at + 1).await, Err(Error::Future { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_take_turns_at_compaction() {
    let cluster = Cluster::start(1);
    let compacting = || Options { compact_interval: Some(Duration::from_millis(200)), compact_retain: 10, ..options() };
    let (one, two) = tokio::join!(open_with(&cluster, compacting()), open_with(&cluster, compacting()));
    let begun = one.create(bytes("/often"), bytes(""), 0).await.unwrap();
    let mut at = begun;
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while one.status().await.unwrap().compacted <= begun {
        assert!(std::time::Instant::now() < until, "nothing was compacted");
        at = one.update(bytes("/often"), at, bytes("v"), 0).await.unwrap();
    }
    let key = two.get(bytes("compact_rev_key"), 0).await.unwrap().1.unwrap();
    let agreed: Revision = std::str::from_utf8(&key.value).unwrap().parse().unwrap();
    assert!(agreed > begun);
    let status = two.status().await.unwrap();
    assert!(status.revision - status.compacted >= 10, "{status:?}");
    assert!(one.metrics().text().contains("kine_compact_total") || two.metrics().text().contains("kine_compact_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_all_or_nothing_and_says_what_it_lacks() {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    let put = |key: &str, lease| TxnOp::Put { key: bytes(key), value: Some(bytes("v")), lease };
    let begun = store.current_revision().await.unwrap();
    let txn = Txn { success: vec![put("/a", Some(0)), put("/b", Some(0))], ..Txn::default() };
    let done = store.txn(txn).await.unwrap();
    assert_eq!((done.revision, done.succeeded), (begun + 1, true));
    assert_eq!(done.results, [TxnResult::Put { previous: None }, TxnResult::Put { previous: None }]);
    let events = take(&mut all(&store, begun).await, 2).await;
    assert_eq!(revisions(&events), [begun + 1, begun + 1]);

    let past = TxnOp::Range { start: bytes("/"), end: bytes("0"), limit: 1, revision: begun + 1 };
    let compare = Compare {
        start: bytes("/"),
        end: bytes("0"),
        operator: Operator::Greater,
        target: Target::ModRevision(begun + 1),
    };
    let read = store.txn(Txn { compare: vec![compare], success: Vec::new(), failure: vec![past] }).await.unwrap();
    let [TxnResult::Range(range)] = &read.results[..] else { panic!("{read:?}") };
    assert!(!read.succeeded && range.more && range.count == 2 && range.kvs.len() == 1, "{range:?}");

    let refused = store.txn(Txn { success: vec![put("/c", Some(0)), put("/d", Some(77))], ..Txn::default() }).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound { id: 77 })), "{refused:?}");
    let refused = store.txn(Txn { success: vec![put("/c", None)], ..Txn::default() }).await;
    assert!(matches!(&refused, Err(Error::KeyNotFound { key }) if key == "/c"), "{refused:?}");
    let refused = store.txn(Txn { success: vec![put("", Some(0))], ..Txn::default() }).await;
    assert!(matches!(refused, Err(Error::EmptyKey)), "{refused:?}");
    assert!(matches!(store.create(bytes(""), bytes("v"), 0).await, Err(Error::EmptyKey)));
    let (current, kv) = store.get(bytes("/c"), 0).await.unwrap();
    assert_eq!((current, kv), (begun + 1, None));

    for answer in [store.update(bytes("/none"), 0, bytes(""), 0).await, store.delete(bytes("/none"), 0).await] {
        assert!(matches!(&answer, Err(Error::Conflict { current: None, .. })), "{answer:?}");
    }
    let nothing = store.range(bytes("/b"), bytes("/a"), 0, 0).await.unwrap();
    assert_eq!((nothing.count, nothing.kvs.len()), (0, 0));
    assert_eq!(store.count(bytes(""), UNBOUNDED, 0).await.unwrap(), (begun + 1, 2));
    assert_eq!(store.current_revision().await.unwrap(), begun + 1);
}
