//! Members go away, and come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::*;

/// Writes keys one after the other until it is told to stop. Returns their revisions. A write that was cut off may have
/// been done: it is asked for again.
async fn write_on(store: Arc<Etcd>, stop: Arc<AtomicBool>) -> Vec<Revision> {
    let mut written = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = bytes(format!("/on/{}", written.len()));
        let revision = loop {
            match store.create(key.clone(), bytes("v"), 0).await {
                Ok(revision) => break revision,
                Err(Error::Conflict { current: Some(kv), .. }) => break kv.mod_revision,
                Err(Error::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        written.push(revision);
    }
    written
}

/// At least so many more events.
async fn take_more(watch: &mut Watch, watched: &mut Vec<Revision>, count: usize) {
    let enough = watched.len() + count;
    while watched.len() < enough {
        let batch = tokio::time::timeout(Duration::from_secs(30), watch.recv()).await.expect("nothing came");
        if let WatchBatch::Events(events) = batch.expect("the watch ended") {
            watched.extend(revisions(&events));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_survive_the_loss_of_any_one() {
    let mut cluster = Cluster::start(3);
    let store = Arc::new(open(&cluster).await);
    let begun = store.create(bytes("/begin"), bytes("v"), 0).await.unwrap();
    let mut watch = all(&*store, begun).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_on(Arc::clone(&store), Arc::clone(&stop)));

    // The leader first, and then each in its turn: among them is the one that was asked, and watched.
    let leader = cluster.leader();
    let mut watched = Vec::new();
    for member in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        take_more(&mut watch, &mut watched, 20).await;
        tokio::task::block_in_place(|| cluster.kill(member));
        let read = store.get(bytes("/begin"), 0).await.unwrap().1.unwrap();
        assert_eq!(read.mod_revision, begun);
        take_more(&mut watch, &mut watched, 20).await;
        tokio::task::block_in_place(|| {
            cluster.run(member);
            cluster.wait();
        });
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    let keys = store.range(bytes("/on/"), bytes("/on0"), 0, 0).await.unwrap();
    assert_eq!(keys.count, written.len() as i64, "all that was acknowledged is there");
    let expected: Vec<_> = (begun + 1..=*written.last().unwrap()).collect();
    assert_eq!(written, expected, "each once, and nothing between");
    let rest = expected.len() - watched.len();
    take_more(&mut watch, &mut watched, rest).await;
    assert_eq!(watched, expected, "each event once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_may_be_away_for_a_while() {
    let mut cluster = Cluster::start(1);
    let store = open_with(&cluster, Options { request_timeout: Duration::from_secs(2), ..options() }).await;
    let begun = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let mut watch = all(&store, begun).await;

    // Away for longer than requests wait: they fail, in time and clearly.
    cluster.kill(0);
    let asked = Instant::now();
    let (read, written) = tokio::join!(store.get(bytes("/a"), 0), store.create(bytes("/b"), bytes(""), 0));
    let waited = asked.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    for error in [read.unwrap_err(), written.unwrap_err()] {
        assert!(matches!(&error, Error::Unavailable { server, .. } if *server == cluster.urls()), "{error:?}");
    }
    assert!(matches!(watch.try_recv(), Err(_) | Ok(WatchBatch::Progress(_))), "the watch stays");

    // Away for less: requests wait for it. Another client writes before this one is there again.
    tokio::task::block_in_place(|| cluster.run(0));
    let mut answer = store.get(bytes("/a"), 0).await;
    while matches!(answer, Err(Error::Unavailable { .. })) {
        answer = store.get(bytes("/a"), 0).await;
    }
    assert_eq!(answer.unwrap().1.unwrap().mod_revision, begun);
    cluster.etcdctl(0, &["put", "/by-another", "v"]);
    let last = store.create(bytes("/c"), bytes(""), 0).await.unwrap();
    assert_eq!(revisions(&take(&mut watch, 2).await), [begun + 1, begun + 2]);
    assert_eq!(last, begun + 2);
    assert_eq!(revisions(&take(&mut all(&store, begun).await, 2).await), [begun + 1, begun + 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_everything_is_noticed() {
    let mut cluster = Cluster::start(1);
    let store = open(&cluster).await;
    let mut last = 0;
    for n in 0..5 {
        last = store.create(bytes(format!("/{n}")), bytes("v"), 0).await.unwrap();
    }
    let mut watch = all(&store, last).await;
    tokio::task::block_in_place(|| {
        cluster.lose(0);
        cluster.run(0);
        cluster.wait();
    });
    let ended = async { while watch.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the watch does not end");
    let refused = store.watch(bytes("/"), bytes("0"), last).await;
    assert!(matches!(refused, Err(Error::Future { .. })), "{refused:?}");
    let revision = store.create(bytes("/again"), bytes("v"), 0).await.unwrap();
    assert!(revision < last);
    assert_eq!(revisions(&take(&mut all(&store, revision - 1).await, 1).await), [revision]);
}

/// What a request with a deadline comes to: an answer, or an error that says which datastore, in time.
fn in_time<T: std::fmt::Debug>(cluster: &Cluster, asked: Instant, answer: Result<T, Error>) {
    let waited = asked.elapsed();
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    let error = answer.unwrap_err();
    assert!(matches!(&error, Error::Unavailable { server, .. } if *server == cluster.urls()), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_requests_fail_in_time_and_go_on_with_it() {
    let mut cluster = Cluster::start(3);
    let patience = Duration::from_secs(3);
    let store = open_with(&cluster, Options { request_timeout: patience, ..options() }).await;
    let begun = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let mut watch = all(&store, begun).await;

    tokio::task::block_in_place(|| [0, 1].map(|member| cluster.kill(member)));
    let asked = Instant::now();
    let (read, written, current) =
        tokio::join!(store.get(bytes("/a"), 0), store.create(bytes("/b"), bytes(""), 0), store.current_revision());
    in_time(&cluster, asked, read);
    in_time(&cluster, asked, written);
    in_time(&cluster, asked, current);
    assert!(matches!(watch.try_recv(), Err(_) | Ok(WatchBatch::Progress(_))), "the watch stays");

    // Two of three are enough.
    tokio::task::block_in_place(|| cluster.run(1));
    let written = write_until_done(&store, "/c").await;
    assert_eq!(store.get(bytes("/a"), 0).await.unwrap().1.unwrap().mod_revision, begun);
    // The write that failed may have been done before, when there was a quorum again.
    let events = take(&mut watch, usize::try_from(written - begun).unwrap()).await;
    assert_eq!(revisions(&events), (begun + 1..=written).collect::<Vec<_>>());
}

/// Creates a key, and asks for it again where it may have been done.
async fn write_until_done(store: &Etcd, key: &str) -> Revision {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match store.create(bytes(key), bytes("v"), 0).await {
            Ok(revision) => return revision,
            Err(Error::Conflict { current: Some(kv), .. }) => return kv.mod_revision,
            Err(Error::Unavailable { .. }) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_member_holds_nothing_up_for_long() {
    let cluster = Cluster::start(3);
    let store = open(&cluster).await;
    let begun = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let mut watch = all(&store, begun).await;
    let mut last = begun;
    // The one that is asked, and watched; then the leader, be it the same.
    for leader in [false, true] {
        let member = if leader { tokio::task::block_in_place(|| cluster.leader()) } else { 0 };
        cluster.freeze(member);
        let asked = Instant::now();
        let read = store.get(bytes("/a"), 0).await;
        assert_eq!(read.unwrap().1.unwrap().mod_revision, begun, "another member answers");
        let written = write_until_done(&store, &format!("/frozen/{leader}")).await;
        let expected: Vec<_> = (last + 1..=written).collect();
        assert_eq!(revisions(&take(&mut watch, expected.len()).await), expected, "each event once");
        let took = asked.elapsed();
        println!("with member {member} frozen: {took:?}");
        assert!(took < Duration::from_secs(25), "{took:?}");
        last = written;
        cluster.thaw(member);
    }
    let keys = store.range(bytes("/frozen/"), bytes("/frozen0"), 0, 0).await.unwrap();
    assert_eq!(keys.count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_cluster_is_one_that_is_away() {
    let cluster = Cluster::start(1);
    let store = open_with(&cluster, Options { request_timeout: Duration::from_secs(2), ..options() }).await;
    let begun = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let mut watch = all(&store, begun).await;
    cluster.freeze(0);
    let asked = Instant::now();
    let (read, written) = tokio::join!(store.get(bytes("/a"), 0), store.create(bytes("/b"), bytes(""), 0));
    in_time(&cluster, asked, read);
    in_time(&cluster, asked, written);
    cluster.thaw(0);
    let written = write_until_done(&store, "/c").await;
    assert_eq!(
        revisions(&take(&mut watch, usize::try_from(written - begun).unwrap()).await),
        (begun + 1..=written).collect::<Vec<_>>()
    );
}
