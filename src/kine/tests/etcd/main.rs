//! The datastore in real etcd clusters, which the tests start for themselves (package etcd-server).

mod access;
#[path = "../servers/certificates.rs"]
mod certificates;
mod cluster;
mod history;
mod leases;
mod loss;
#[path = "../model/mod.rs"]
mod model;
mod model_etcd;

use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{
    Datastore, Error, Event, Revision, UNBOUNDED, Watch, WatchBatch,
    etcd::{Endpoint, Etcd, Options},
    tls::Files,
};

use self::cluster::Cluster;

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

fn options() -> Options {
    Options {
        compact_interval: None,
        progress_interval: Duration::from_millis(50),
        request_timeout: Duration::from_secs(10),
        ..Options::default()
    }
}

async fn open(cluster: &Cluster) -> Etcd {
    open_with(cluster, options()).await
}

async fn open_with(cluster: &Cluster, options: Options) -> Etcd {
    Etcd::open(Endpoint::parse(&cluster.urls(), &Files::default()).unwrap(), options).await.unwrap()
}

async fn all(store: &impl Datastore, after: Revision) -> Watch {
    store.watch(bytes(""), UNBOUNDED, after).await.unwrap()
}

/// The next `count` events.
async fn take(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(30), watch.recv()).await.expect("nothing came");
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
