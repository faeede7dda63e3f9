//! The datastore in real etcd clusters, which the tests start for themselves (package etcd-server).

mod access;
#[path = "../events/mod.rs"]
mod events;
mod history;
mod leases;
mod loss;
#[path = "../model/mod.rs"]
mod model;
mod model_etcd;

use std::time::Duration;

use k3s_kine::{
    Datastore, Error, Event, Revision, UNBOUNDED, Watch, WatchBatch,
    etcd::{Endpoint, Etcd, Options},
    tls::Files,
};

use k3s_tests::datastore::{certificates, etcd::Cluster};

use self::events::{all, bytes, revisions, take};

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
