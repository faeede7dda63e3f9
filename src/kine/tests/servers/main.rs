//! The datastore in real servers, which the tests start for themselves: PostgreSQL and MariaDB.

mod access;
mod certificates;
mod face;
mod log;
#[path = "../model/mod.rs"]
mod model;
mod outage;
mod server;

use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{
    Datastore, Event, Revision, UNBOUNDED, Watch, WatchBatch,
    sql::{Options, Sql, mysql, postgres},
    tls::Files,
};

use self::server::{Kind, Server};

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

fn options() -> Options {
    Options {
        progress_interval: Duration::from_millis(50),
        request_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

/// Opens a database of a server.
async fn open(server: &Server, database: &str) -> Sql {
    open_with(server, database, options()).await
}

async fn open_with(server: &Server, database: &str, options: Options) -> Sql {
    let rest = server.endpoint("k3s:secret", database);
    let rest = rest.split_once("://").unwrap().1;
    match server.kind {
        Kind::Postgres => {
            postgres::open(postgres::Endpoint::parse(rest, &Files::default()).unwrap(), options).await.unwrap()
        }
        Kind::Mariadb => mysql::open(mysql::Endpoint::parse(rest, &Files::default()).unwrap(), options).await.unwrap(),
    }
}

async fn all(store: &impl Datastore, after: Revision) -> Watch {
    store.watch(bytes(""), UNBOUNDED, after).await.unwrap()
}

/// The next `count` events.
async fn take(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.recv()).await.expect("nothing came");
        match batch.expect("the watch ended") {
            WatchBatch::Events(events) => taken.extend(events),
            WatchBatch::Progress(_) => {}
        }
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

fn revisions(events: &[Event]) -> Vec<Revision> {
    events.iter().map(Event::revision).collect()
}
