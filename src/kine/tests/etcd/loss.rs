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
