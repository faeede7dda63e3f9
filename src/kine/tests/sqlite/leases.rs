//! Keys with a time to live.

use super::*;

#[tokio::test]
async fn a_key_is_deleted_when_its_time_has_passed_unless_written_again() {
    let Store { store, .. } = &Store::new();
    let short = store.create(bytes("/short"), bytes("v"), 1).await.unwrap();
    let kept = store.create(bytes("/kept"), bytes("v"), 1).await.unwrap();
    let renewed = store.create(bytes("/renewed"), bytes("v"), 1).await.unwrap();
    store.update(bytes("/kept"), kept, bytes("v"), 0).await.unwrap();
    let renewed = store.update(bytes("/renewed"), renewed, bytes("v"), 3600).await.unwrap();

    let events = take(&mut all(store, renewed).await, 1).await;
    assert!(matches!(&events[0], Event::Delete { previous, .. } if previous.mod_revision == short));
    let range = store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap();
    let left: Vec<_> = range.kvs.iter().map(|kv| (kv.key.clone(), kv.lease)).collect();
    assert_eq!(left, [(bytes("/kept"), 0), (bytes("/renewed"), 3600)]);
}

#[tokio::test]
async fn the_time_goes_on_while_the_datastore_is_closed() {
    let store = Store::new();
    store.store.create(bytes("/long"), bytes(""), 3600).await.unwrap();
    let last = store.store.create(bytes("/short"), bytes(""), 3600).await.unwrap();
    store.store.close().await.unwrap();
    // As if an hour had passed for one of them.
    let ended = "UPDATE kine_lease SET expires = expires - 3600000 WHERE id = ?1";
    assert_eq!(sql(&store.path()).execute(ended, [last]).unwrap(), 1);
    let store = store.reopen(Options::default()).await;
    let events = take(&mut all(&store.store, last).await, 1).await;
    assert_eq!(events[0].key(), &bytes("/short"));
    assert!(store.store.get(bytes("/long"), 0).await.unwrap().1.is_some());
}

#[tokio::test]
async fn keys_that_kine_wrote_have_their_time_from_the_open_on() {
    let store = Store::new();
    store.store.close().await.unwrap();
    let conn = sql(&store.path());
    let insert = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) VALUES ";
    conn.execute_batch(&format!("{insert} ('/event', 1, 0, 0, 0, 1, 'v'), ('/other', 1, 0, 0, 0, 1, 'v')")).unwrap();
    conn.execute_batch(&format!("{insert} ('/other', 0, 0, 3, 3, 0, 'v')")).unwrap();
    drop(conn);
    let store = store.reopen(Options::default()).await;
    let events = take(&mut all(&store.store, 4).await, 1).await;
    assert_eq!(events[0].key(), &bytes("/event"));
    assert!(store.store.get(bytes("/other"), 0).await.unwrap().1.is_some());
}
