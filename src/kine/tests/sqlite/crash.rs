//! Kill -9 under load: what was acknowledged is there, revisions go on, and a watch that resumes sees each event once.
//! 10 kills, or `KINE_CRASH_ROUNDS=100`.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const FOLDER: &str = "KINE_CRASH_FOLDER";
const SEEN: &str = "KINE_CRASH_SEEN";

/// Writes for ever, and says on stdout what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that killed_at_any_moment starts and kills"]
async fn child_writes() {
    let folder = std::env::var_os(FOLDER).expect("started by killed_at_any_moment");
    // Compaction as well, so that it is killed at that, too.
    let options =
        Options { compact_interval: Some(Duration::from_millis(20)), compact_retain: 5000, ..Options::default() };
    let store = Arc::new(Sqlite::open(&Path::new(&folder).join("state.db"), options).unwrap());
    let seen: Revision = std::env::var(SEEN).unwrap().parse().unwrap();
    let mut watch = store.watch(bytes("/"), bytes("0"), seen).await.unwrap();
    tokio::spawn(async move {
        while let Some(batch) = watch.recv().await {
            let WatchBatch::Events(events) = batch else { continue };
            for event in events {
                let line = format!("saw {}\n", event.revision());
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        }
    });
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = bytes(format!("/{task}"));
                let mut at = store.get(key.clone(), 0).await.unwrap().1.map(|kv| kv.mod_revision);
                for n in 0.. {
                    at = Some(match at {
                        Some(at) => store.update(key.clone(), at, bytes(format!("{n}")), 0).await.unwrap(),
                        None => store.create(key.clone(), bytes(format!("{n}")), 0).await.unwrap(),
                    });
                    // A line in one write: lines of several tasks don't mix, and none is cut but the last.
                    let line = format!("ack /{task} {} {n}\n", at.unwrap());
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let mut acknowledged: HashMap<String, (Revision, String)> = HashMap::new();
    let mut revisions = std::collections::HashSet::new();
    let (mut current, mut seen) = (0, 1);
    let rounds = std::env::var("KINE_CRASH_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "crash::child_writes", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(SEEN, seen.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let (mut count, last) = (0, rng.random_range(1..400));
        let mut killed = false;
        // After the kill, what is still in the pipe was acknowledged as well.
        for line in lines {
            let line = String::from_utf8(line.unwrap()).unwrap();
            // The first comes after what the test harness has written.
            if let Some((_, revision)) = line.split_once("saw ") {
                assert_eq!(revision.parse::<Revision>().unwrap(), seen + 1, "round {round}");
                seen += 1;
                continue;
            }
            let mut words = line.split(' ').skip_while(|word| *word != "ack").skip(1);
            let (Some(key), Some(revision), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
            assert!(revisions.insert(revision.to_owned()), "round {round}: {revision} came twice");
            acknowledged.insert(key.into(), (revision.parse().unwrap(), value.into()));
            count += 1;
            if count >= last && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        assert!(killed, "the child ended by itself");
        child.wait().unwrap();

        let store = Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap();
        let now = store.current_revision().await.unwrap();
        assert!(now > current, "round {round}: revision {now} after {current}");
        for (key, (revision, value)) in &acknowledged {
            let kv = store.get(bytes(key), 0).await.unwrap().1.expect("an acknowledged key is gone");
            assert!(kv.mod_revision >= *revision, "round {round}: {key} is back at {}", kv.mod_revision);
            if kv.mod_revision == *revision {
                assert_eq!(kv.value, bytes(value));
            }
            assert!(now >= *revision);
        }
        assert!(seen <= now, "round {round}: saw {seen}, which is gone");
        current = now;
        store.close().await.unwrap();
        let check: String =
            sql(&folder.path().join("state.db")).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "round {round}");
    }
}
