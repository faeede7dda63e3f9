//! endpoint status and health, snapshot, defrag, hashes, members, and what is refused.

use k3s_kine::{Datastore, Error, sqlite};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_says_how_it_is() {
    let served = Served::tcp().await;
    served.run(&["put", "/a", "1"]).await;
    let (_, _, health) = served.output(&["endpoint", "health"], "").await;
    assert!(health.contains("is healthy"), "{health}");
    let status = &served.json(&["endpoint", "status"]).await[0]["Status"];
    assert_eq!(status["header"]["revision"], 2);
    assert_eq!(status["version"], grpc::ETCD_VERSION);
    assert_eq!(status["leader"], status["header"]["member_id"]);
    assert!(status["dbSize"].as_i64().unwrap() > 0);
    let members = served.run(&["member", "list"]).await;
    assert!(members.contains(&format!("started, kine, {0}, {0}", served.url)), "{members}");
    assert_eq!(served.run(&["alarm", "list"]).await, "");
    served.run(&["alarm", "disarm"]).await;
    served.run(&["defrag"]).await;

    let hash = async || served.json(&["endpoint", "hashkv"]).await[0]["HashKV"]["hash"].as_u64().unwrap();
    let (before, again) = (hash().await, hash().await);
    assert_eq!(before, again);
    served.run(&["put", "/a", "2"]).await;
    assert_ne!(hash().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_the_reason() {
    let served = Served::tcp().await;
    for (args, reason) in [
        (&["auth", "enable"][..], "there are no users"),
        (&["user", "list"], "there are no users"),
        (&["member", "add", "other", "--peer-urls=http://127.0.0.1:1"], "the cluster is this one member"),
    ] {
        let err = served.fail(args).await;
        assert!(err.contains(reason), "{args:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_etcdctl_saved_can_be_restored() {
    let served = Served::tcp().await;
    for n in 0..300 {
        served.store.create(format!("/{n}").into(), "x".repeat(5000).into(), 0).await.unwrap();
    }
    let snapshot = served.path("saved");
    served.run(&["snapshot", "save", snapshot.to_str().unwrap()]).await;
    let later = served.store.create("/later".into(), "".into(), 0).await.unwrap();
    let database = served.path("state.db");
    assert!(matches!(sqlite::restore(&snapshot, &database), Err(Error::InUse { .. })));
    let left: Vec<_> = std::fs::read_dir(served.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("snapshot-"))
        .collect();
    assert_eq!(left, [""; 0], "the server's own copy is gone");

    let folder = served.close().await;
    let kept = sqlite::restore(&snapshot, &database).unwrap().expect("the old database is kept");
    let store = Sqlite::open(&database, Options::default()).unwrap();
    assert_eq!(store.current_revision().await.unwrap(), later - 1);
    assert_eq!(store.count("/".into(), "0".into(), 0).await.unwrap().1, 300);
    store.close().await.unwrap();
    let old = Sqlite::open(&kept, Options::default()).unwrap();
    assert_eq!(old.current_revision().await.unwrap(), later);
    old.close().await.unwrap();

    let mut content = std::fs::read(&snapshot).unwrap();
    content[100_000] ^= 1;
    std::fs::write(&snapshot, &content).unwrap();
    match sqlite::restore(&snapshot, &database) {
        Err(Error::Corrupt { path, detail }) => {
            assert_eq!(path, snapshot.display().to_string());
            assert!(detail.contains("checksum"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Sqlite::open(&database, Options::default()).is_ok(), "what was there is untouched");
    drop(folder);
}

/// A minute of load by etcd's own measure; for machines at rest.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn check_perf_passes() {
    let served = Served::tcp().await;
    let (success, out, err) = served.output(&["check", "perf"], "").await;
    assert!(success && out.contains("PASS"), "{out}{err}");
}
