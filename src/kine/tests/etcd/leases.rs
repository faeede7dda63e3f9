//! Leases, and keys with a time to live.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_as_long_as_it_is_kept_alive() {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    let lease = store.lease_grant(0x77, 100).await.unwrap();
    assert_eq!((lease.id, lease.ttl), (0x77, 100));
    assert!(matches!(store.lease_grant(0x77, 5).await, Err(Error::LeaseExists { id: 0x77 })));
    assert!(matches!(store.lease_grant(0, 9_000_000_001).await, Err(Error::LeaseTooLong { ttl: 9_000_000_001 })));
    let put = |key: &str| k3s_kine::TxnOp::Put { key: bytes(key), value: Some(bytes("v")), lease: Some(lease.id) };
    let txn = k3s_kine::Txn { success: vec![put("/2"), put("/1")], ..Default::default() };
    let written = store.txn(txn).await.unwrap().revision;
    assert_eq!(store.get(bytes("/1"), 0).await.unwrap().1.unwrap().lease, 0x77);
    assert_eq!(store.lease_keys(0x77).await.unwrap(), [bytes("/1"), bytes("/2")]);
    assert_eq!(store.leases().await.unwrap(), [0x77]);
    assert_eq!(store.lease_keep_alive(0x77).await.unwrap().ttl, 100);
    assert!(store.lease_time_to_live(0x77).await.unwrap().remaining > Duration::from_secs(90));

    assert_eq!(store.lease_revoke(0x77).await.unwrap(), written + 1);
    assert_eq!(revisions(&take(&mut all(&store, written).await, 2).await), [written + 1, written + 1]);
    for refused in [
        store.lease_keep_alive(0x77).await.map(drop),
        store.lease_revoke(0x77).await.map(drop),
        store.lease_time_to_live(0x77).await.map(drop),
    ] {
        assert!(matches!(&refused, Err(Error::LeaseNotFound { id: 0x77 })), "{refused:?}");
    }
    assert!(store.lease_keys(0x77).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_with_its_time_unless_it_is_written_again() {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    let kept = store.create(bytes("/kept"), bytes("v"), 1).await.unwrap();
    let kept = store.update(bytes("/kept"), kept, bytes("v"), 0).await.unwrap();
    let last = store.create(bytes("/short"), bytes("v"), 1).await.unwrap();
    let ended = take(&mut all(&store, last).await, 1).await;
    assert!(matches!(&ended[0], Event::Delete { previous, .. } if previous.key == bytes("/short")), "{ended:?}");
    assert_eq!(store.get(bytes("/kept"), 0).await.unwrap().1.unwrap().mod_revision, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_one_time_share_a_lease_and_a_lost_write_leaves_none() {
    let cluster = Cluster::start(1);
    let store = open(&cluster).await;
    for n in 0..5 {
        store.create(bytes(format!("/{n}")), bytes("v"), 3600).await.unwrap();
    }
    let leases = store.leases().await.unwrap();
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(store.lease_keys(leases[0]).await.unwrap().len(), 5);
    let lease = store.lease_time_to_live(leases[0]).await.unwrap();
    assert_eq!(lease.ttl, 3660, "each key has its whole time, however late in the minute it comes");

    for lost in [store.create(bytes("/0"), bytes("w"), 10).await, store.update(bytes("/0"), 1, bytes("w"), 10).await] {
        assert!(matches!(&lost, Err(Error::Conflict { current: Some(_), .. })), "{lost:?}");
    }
    assert_eq!(store.leases().await.unwrap(), leases);

    // Somebody has revoked it: the next write finds that out, and takes another.
    store.lease_revoke(leases[0]).await.unwrap();
    store.create(bytes("/0"), bytes("v"), 3600).await.unwrap();
    assert_ne!(store.leases().await.unwrap(), leases);
}
