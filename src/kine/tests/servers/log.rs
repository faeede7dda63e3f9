//! What the log is on each kind of server: the model, several servers on one database, kine's rows, ends.

use super::{
    model::{self, Backend},
    *,
};

struct Database<'a> {
    server: &'a Server,
    name: String,
}

impl Backend for Database<'_> {
    type Store = Sql;

    async fn open(&self) -> Sql {
        open_with(self.server, &self.name, Options { progress_interval: Duration::from_millis(5), ..options() }).await
    }

    async fn close(&self, store: Sql) {
        store.close().await.unwrap();
    }
}

async fn compare_with_model(kind: Kind, seeds: std::ops::Range<u64>, steps: usize) {
    let server = Server::start(kind);
    for seed in seeds {
        model::run(&Database { server: &server, name: format!("seed{seed}") }, seed, steps).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_as_the_model_does() {
    compare_with_model(Kind::Postgres, 0..2, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_answers_as_the_model_does() {
    compare_with_model(Kind::Mariadb, 0..2, 400).await;
}

/// For longer runs: `KINE_MODEL_SEEDS=1000 cargo test -p k3s-kine --test servers for_long -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to"]
async fn both_answer_as_the_model_does_for_long() {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        compare_with_model(kind, 100..100 + model::long_seeds(), 2000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_one_log_for_several_servers() {
    one_log_for_several(&Server::start(Kind::Postgres)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_one_log_for_several_servers() {
    one_log_for_several(&Server::start(Kind::Mariadb)).await;
}

/// Ends are in the database: they outlive the servers, also those of keys that only one of them knew of.
async fn leases_outlive_the_servers(server: &Server) {
    let before = open(server, "leases").await;
    let lease = before.lease_grant(0x77, 4).await.unwrap();
    before.lease_grant(0x78, 3600).await.unwrap();
    let leased = k3s_kine::TxnOp::Put { key: bytes("/leased"), value: Some(bytes("v")), lease: Some(lease.id) };
    before.txn(k3s_kine::Txn { success: vec![leased], ..Default::default() }).await.unwrap();
    let last = before.create(bytes("/short"), bytes("v"), 1).await.unwrap();
    before.close().await.unwrap();
    server.sql("leases", "UPDATE kine_lease_grant SET expires = 1");
    let after = open(server, "leases").await;
    let left = after.lease_time_to_live(0x77).await.unwrap();
    assert_eq!((left.ttl, after.lease_keys(0x77).await.unwrap()), (4, vec![bytes("/leased")]));
    assert_eq!(after.lease_keep_alive(0x78).await.unwrap().ttl, 3600, "though it ended while nobody was there");
    let mut ended: Vec<_> =
        take(&mut all(&after, last).await, 2).await.iter().map(|event| event.key().clone()).collect();
    ended.sort();
    assert_eq!(ended, [bytes("/leased"), bytes("/short")]);
    server.sql("leases", "UPDATE kine_lease_grant SET expires = 1");
    let kept = after.lease_keep_alive(0x78).await;
    assert!(matches!(&kept, Err(k3s_kine::Error::LeaseNotFound { id: 0x78 })), "it is about to be revoked: {kept:?}");
    after.close().await.unwrap();
}

async fn one_log_for_several(server: &Server) {
    leases_outlive_the_servers(server).await;
    let (one, two) = tokio::join!(open(server, "kubernetes"), open(server, "kubernetes"));
    keeps_any_keys_in_their_order(&one, &two).await;
    sees_the_others_write_at_once(server, &one, &two).await;
    writers_compete(&one, &two).await;
    keys_and_leases_end_once(&one, &two).await;
    compacts_beside_the_other(&one, &two).await;
    fills_what_kine_skipped(server, &one, &two).await;
}

/// Also those that are no text, and those that look like kine's bookkeeping.
async fn keeps_any_keys_in_their_order(one: &Sql, two: &Sql) {
    const KEYS: [&[u8]; 9] =
        [b"\0", b"\x01\xff", b"/a\0b", "/ü".as_bytes(), b"/\xff\xfe", b"compact_rev_key", b"gap,", b"gap-7", b"\xff"];
    let begun = one.current_revision().await.unwrap();
    let mut watch = all(two, begun).await;
    for key in KEYS {
        let key = Bytes::from_static(key);
        let revision = one.create(key.clone(), bytes("v"), 0).await.unwrap();
        assert_eq!(two.get(key.clone(), 0).await.unwrap().1.unwrap().mod_revision, revision);
        two.update(key, revision, bytes("w"), 0).await.unwrap();
    }
    let told: Vec<_> = take(&mut watch, 2 * KEYS.len()).await.iter().map(|event| event.key().clone()).collect();
    assert_eq!(told, KEYS.iter().flat_map(|key| [*key; 2]).collect::<Vec<_>>());
    let found = async |start: &'static [u8], end: Bytes| -> Vec<Bytes> {
        let range = one.range(Bytes::from_static(start), end, 0, 0).await.unwrap();
        range.kvs.into_iter().map(|kv| kv.key).collect()
    };
    assert_eq!(found(b"", UNBOUNDED).await, KEYS);
    assert_eq!(found(b"/a\0", bytes("gap-")).await, KEYS[2..7]);
    assert_eq!(found(b"/\xff", UNBOUNDED).await, KEYS[4..]);
    for key in KEYS {
        let range = one.range(Bytes::from_static(key), [key, b"\0"].concat().into(), 0, 0).await.unwrap();
        assert_eq!(range.count, 1, "{key:?}");
        one.delete(Bytes::from_static(key), range.kvs[0].mod_revision).await.unwrap();
    }
    assert_eq!(two.count(bytes(""), UNBOUNDED, 0).await.unwrap().1, 0);
    for refused in
        [one.create(bytes("x".repeat(2001)), bytes(""), 0).await, one.delete(vec![0xff; 1001].into(), 1).await]
    {
        assert!(matches!(&refused, Err(k3s_kine::Error::InvalidKey { .. })), "{refused:?}");
    }
}

async fn sees_the_others_write_at_once(server: &Server, one: &Sql, two: &Sql) {
    let current = one.current_revision().await.unwrap();
    let mut watch = all(two, current).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let revision = one.create(bytes(format!("/at-once/{n}")), bytes("v"), 0).await.unwrap();
        let written = std::time::Instant::now();
        assert_eq!(revisions(&take(&mut watch, 1).await), [revision]);
        slowest = slowest.max(written.elapsed());
        assert_eq!(two.get(bytes(format!("/at-once/{n}")), 0).await.unwrap().0, revision);
    }
    println!("{:?}: another server's watch is told after at most {slowest:?}", server.kind);
    // Far from the second that passes if there is no sign at all.
    assert!(slowest < Duration::from_millis(600), "{slowest:?}");
}

async fn writers_compete(one: &Sql, two: &Sql) {
    const ROUNDS: usize = 25;
    let key = bytes("/counter");
    let begun = one.create(key.clone(), bytes("0"), 0).await.unwrap();
    let (mut first, mut second) = (all(one, begun).await, all(two, begun).await);
    let count = |store| {
        let key = key.clone();
        async move {
            for _ in 0..ROUNDS {
                loop {
                    let store: &Sql = store;
                    let kv = store.get(key.clone(), 0).await.unwrap().1.unwrap();
                    let count: usize = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                    let value = bytes((count + 1).to_string());
                    if store.update(key.clone(), kv.mod_revision, value, 0).await.is_ok() {
                        break;
                    }
                }
            }
        }
    };
    tokio::join!(count(one), count(two), count(one), count(two));
    let (current, kv) = two.get(key.clone(), 0).await.unwrap();
    assert_eq!(kv.unwrap().value, bytes((4 * ROUNDS).to_string()));
    let expected: Vec<_> = (begun + 1..=begun + 4 * ROUNDS as i64).collect();
    assert_eq!(current, *expected.last().unwrap(), "no revision is skipped");
    assert_eq!(revisions(&take(&mut first, expected.len()).await), expected);
    assert_eq!(revisions(&take(&mut second, expected.len()).await), expected);
}

async fn keys_and_leases_end_once(one: &Sql, two: &Sql) {
    let lease = two.lease_grant(0, 4).await.unwrap();
    let put = |key: &str| k3s_kine::TxnOp::Put { key: bytes(key), value: Some(bytes("v")), lease: Some(lease.id) };
    let txn = k3s_kine::Txn { success: vec![put("/leased/1"), put("/leased/2")], ..Default::default() };
    one.txn(txn).await.unwrap();
    assert_eq!(two.lease_keys(lease.id).await.unwrap(), [bytes("/leased/1"), bytes("/leased/2")]);
    let kept = one.create(bytes("/ttl/kept"), bytes("v"), 1).await.unwrap();
    one.update(bytes("/ttl/kept"), kept, bytes("v"), 0).await.unwrap();
    let last = one.create(bytes("/ttl/short"), bytes("v"), 1).await.unwrap();
    assert_eq!(one.lease_keep_alive(lease.id).await.unwrap().ttl, 4);

    let mut watch = all(two, last).await;
    let mut ended: Vec<_> = take(&mut watch, 3).await.iter().map(|event| event.key().clone()).collect();
    ended.sort();
    assert_eq!(ended, [bytes("/leased/1"), bytes("/leased/2"), bytes("/ttl/short")]);
    assert!(two.get(bytes("/ttl/kept"), 0).await.unwrap().1.is_some());
    assert!(matches!(one.lease_keep_alive(lease.id).await, Err(k3s_kine::Error::LeaseNotFound { .. })));
    assert_eq!(one.current_revision().await.unwrap(), last + 3, "each ended once");
}

async fn compacts_beside_the_other(one: &Sql, two: &Sql) {
    let begun = one.create(bytes("/often"), bytes(""), 0).await.unwrap();
    let mut at = begun;
    for n in 0..300 {
        at = one.update(bytes("/often"), at, bytes(n.to_string()), 0).await.unwrap();
    }
    let (first, second) = tokio::join!(one.compact(at - 1), two.compact(at - 5));
    first.unwrap();
    second.unwrap();
    for store in [one, two] {
        assert_eq!(store.status().await.unwrap().compacted, at - 1);
        let old = store.get(bytes("/often"), at - 2).await;
        assert!(matches!(old, Err(k3s_kine::Error::Compacted { .. })), "{old:?}");
        assert_eq!(store.get(bytes("/often"), at - 1).await.unwrap().1.unwrap().mod_revision, at - 1);
        assert_eq!(store.get(bytes("/often"), 0).await.unwrap().1.unwrap().version, 301);
    }
}

/// Kine takes ids from a sequence before it commits, so some are never used.
async fn fills_what_kine_skipped(server: &Server, one: &Sql, two: &Sql) {
    let before = one.create(bytes("/before"), bytes(""), 0).await.unwrap();
    let (mut first, mut second) = (all(one, before).await, all(two, before).await);
    let insert = format!(
        "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)
         VALUES ({}, '/of-kine', 1, 0, 0, 0, 0, 'v', NULL)",
        before + 3
    );
    server.sql("kubernetes", &insert);
    for watch in [&mut first, &mut second] {
        let events = take(watch, 1).await;
        assert_eq!((events[0].revision(), events[0].key()), (before + 3, &bytes("/of-kine")));
    }
    let gaps = server.sql("kubernetes", "SELECT COUNT(*) FROM kine WHERE name LIKE 'gap-%' AND deleted = 1");
    assert_eq!(gaps, "2");
    assert_eq!(two.create(bytes("/after"), bytes(""), 0).await.unwrap(), before + 4);
    let kv = one.get(bytes("/of-kine"), 0).await.unwrap().1.unwrap();
    assert_eq!((kv.version, kv.create_revision), (1, before + 3));
    one.update(bytes("/of-kine"), before + 3, bytes("w"), 0).await.unwrap();
    assert_eq!(two.get(bytes("/of-kine"), 0).await.unwrap().1.unwrap().version, 2);
}
