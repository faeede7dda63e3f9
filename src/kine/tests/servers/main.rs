//! The datastore in real servers, which the tests start for themselves: PostgreSQL and MariaDB.

mod access;
#[path = "../events/mod.rs"]
mod events;
mod face;
mod log;
#[path = "../model/mod.rs"]
mod model;
mod outage;

use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{
    Datastore, Event, UNBOUNDED, WatchBatch,
    sql::{Options, Sql, mysql, postgres},
    tls::Files,
};

use k3s_tests::datastore::{
    certificates,
    database::{Kind, Server},
};

use self::events::{all, bytes, revisions, take};

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
