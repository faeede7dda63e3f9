//! The server goes away, and comes back.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_be_away_for_a_while() {
    away_for_a_while(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_may_be_away_for_a_while() {
    away_for_a_while(Kind::Mariadb).await;
}

async fn away_for_a_while(kind: Kind) {
    let mut server = Server::start(kind);
    let store =
        open_with(&server, "kubernetes", Options { request_timeout: Duration::from_secs(2), ..options() }).await;
    let begun = store.create(bytes("/a"), bytes("1"), 0).await.unwrap();
    let mut watch = all(&store, begun).await;

    // Connections are cut under load: requests wait, and find new ones.
    server.cut();
    let second = store.create(bytes("/b"), bytes("1"), 0).await.unwrap();
    assert_eq!(store.get(bytes("/b"), 0).await.unwrap().1.unwrap().mod_revision, second);
    assert_eq!(revisions(&take(&mut watch, 1).await), [second]);

    // Away for longer than requests wait: they fail, in time and clearly.
    server.stop();
    let asked = Instant::now();
    let (read, written) = tokio::join!(store.get(bytes("/a"), 0), store.create(bytes("/c"), bytes(""), 0));
    let waited = asked.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    for error in [read.unwrap_err(), written.unwrap_err()] {
        assert!(matches!(&error, k3s_kine::Error::Unavailable { .. }), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(matches!(watch.try_recv(), Err(_) | Ok(WatchBatch::Progress(_))), "the watch stays");

    // Away for less: requests wait for it.
    let waiting = tokio::spawn({
        let store = std::sync::Arc::new(store);
        async move {
            let mut answer = store.create(bytes("/d"), bytes(""), 0).await;
            while matches!(answer, Err(k3s_kine::Error::Unavailable { .. })) {
                answer = store.create(bytes("/d"), bytes(""), 0).await;
            }
            (store, answer)
        }
    });
    tokio::task::block_in_place(|| server.run());
    let (store, answer) = waiting.await.unwrap();
    let third = match answer {
        Ok(revision) => revision,
        // Done by a try whose answer was lost.
        Err(k3s_kine::Error::Conflict { current: Some(kv), .. }) => kv.mod_revision,
        Err(error) => panic!("{error}"),
    };
    // The watch that was there before goes on: each event once.
    assert_eq!(revisions(&take(&mut watch, 1).await), [third]);
    let fourth = store.create(bytes("/e"), bytes(""), 0).await.unwrap();
    assert_eq!(revisions(&take(&mut watch, 1).await), [fourth]);
    let keys = store.range(bytes("/"), bytes("0"), 0, 0).await.unwrap();
    assert_eq!(keys.count, 4, "{keys:?}");
    let counted = store.metrics().text();
    for retriable in ["true", "false"] {
        let name = format!("kine_insert_errors_total{{retriable=\"{retriable}\"}}");
        assert!(counted.contains(&name), "{counted}");
    }
    store.close().await.unwrap();
    assert!(matches!(store.get(bytes("/a"), 0).await, Err(k3s_kine::Error::Closed)));
}
