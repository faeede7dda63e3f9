//! A full disk: writes are refused, reads go on, and with space writes succeed again.

use std::{os::unix::fs::MetadataExt, process::Command};

use super::*;

const FOLDER: &str = "KINE_FULL_DISK_FOLDER";

/// Runs the test below with a small tmpfs, in a mount namespace that ends with it: nothing is left behind.
#[test]
fn a_full_disk_refuses_writes_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let status = Command::new("unshare")
        .args(if root { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] })
        .args(["sh", "-ec", r#"mount -t tmpfs -o size=4m kine "$0" && exec "$@""#])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "full_disk::child_fills_the_disk", "--nocapture"])
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "needs the small disk that a_full_disk_refuses_writes_only makes"]
async fn child_fills_the_disk() {
    let folder = std::env::var_os(FOLDER).expect("started by a_full_disk_refuses_writes_only");
    let folder = Path::new(&folder);
    let path = folder.join("state.db");
    let store = Sqlite::open(&path, Options::default()).unwrap();
    let mut watch = all(&store, 1).await;
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();

    let value = bytes("x".repeat(10_000));
    let mut written = Vec::new();
    let refused = loop {
        assert!(written.len() < 1000, "the disk is never full");
        match store.create(bytes(format!("/{}", written.len())), value.clone(), 0).await {
            Ok(revision) => written.push(revision),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, Error::NoSpace { path: named } if *named == path.display().to_string()), "{refused:?}");
    for (n, revision) in written.iter().enumerate() {
        let kv = store.get(bytes(format!("/{n}")), 0).await.unwrap().1.unwrap();
        assert_eq!((kv.mod_revision, kv.value.len()), (*revision, value.len()));
    }
    let last = *written.last().unwrap();
    assert_eq!(store.current_revision().await.unwrap(), last);

    std::fs::remove_file(ballast).unwrap();
    let next = store.create(bytes("/after"), bytes(""), 0).await.unwrap();
    assert_eq!(next, last + 1, "the refused write took no revision");
    let revisions: Vec<_> = take(&mut watch, written.len() + 1).await.iter().map(Event::revision).collect();
    assert_eq!(revisions, (2..=next).collect::<Vec<_>>());
    store.close().await.unwrap();
    let store = Sqlite::open(&path, Options::default()).unwrap();
    assert_eq!(store.current_revision().await.unwrap(), next);
    store.close().await.unwrap();
}
