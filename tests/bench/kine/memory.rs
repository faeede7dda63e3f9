//! What a datastore of 100,000 keys of 1 KiB keeps resident when nobody uses it: a process that has nothing else.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use k3s_kine::{
    Datastore,
    sqlite::{Options, Sqlite},
};

use crate::row;

const KEYS: usize = 100_000;
const CLIENTS: usize = 64;
const LIMIT: f64 = 24.0;

pub fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("memory")
        .arg(folder.path().join("state.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    // It says when all is written and some seconds have passed.
    let ready = BufReader::new(child.stdout.take().expect("its output")).lines().next();
    ready.expect("it ended").expect("its output");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok())
        .expect("its resident memory")
        / 1024.0;
    child.kill().expect("a process of ours");
    child.wait().expect("a process of ours");
    row(
        "resident memory with 100,000 keys of 1 KiB, idle",
        "",
        &format!("{resident:.1} MiB"),
        "",
        "< 24 MiB",
        resident < LIMIT,
    );
}

/// The process that is measured.
pub fn child(database: &str) {
    crate::runtime().block_on(async {
        let store = Arc::new(Sqlite::open(Path::new(database), Options::default()).expect("a datastore"));
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|first| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in (first..KEYS).step_by(CLIENTS) {
                        let value = Bytes::from(vec![b'x'; 1024]);
                        store.create(format!("/registry/pods/{n}").into(), value, 0).await.expect("create");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a client");
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        println!("ready");
        // Until it is killed, or whoever started it is gone.
        tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await.expect("a thread");
    });
}
