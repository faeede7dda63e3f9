//! The control loops of kube-controller-manager, one file each.
//!
//! Each is a function of the shared caches ([`Informers`]) and a work queue ([`queue::Queue`]): changes add keys, a key
//! is reconciled by one task at a time, what fails comes back.

#![forbid(unsafe_code)]

mod deployment;
mod discovery;
mod endpoints;
mod endpointslice;
mod event;
mod garbagecollector;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod owner;
mod podgc;
mod queue;
mod replicaset;
mod rootca;
mod serviceaccount;

use std::sync::Arc;

use ipnet::IpNet;
use k3s_client::{Change, Changes, Informers};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers need to know of the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Each node gets a /24 (IPv4) of it.
    pub cluster_cidr: IpNet,
    /// PEM of the API server's authority, for `kube-root-ca.crt`.
    pub root_ca: String,
}

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("cannot encode a patch: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("{0}")]
    Invalid(String),
    /// What is needed is not in the cache yet.
    #[error("waiting for {0}")]
    Waiting(String),
}

/// Whether the API server answered with that HTTP status.
fn is_status<T>(result: &Result<T, kube::Error>, code: u16) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == code)
}

/// Runs all controllers until cancelled. One that panics is started again.
pub async fn run(config: Config, informers: Informers, cancel: CancellationToken) {
    let config = Arc::new(config);
    let mut tasks = JoinSet::new();
    macro_rules! start {
        ($($controller:ident),* $(,)?) => {$({
            let (config, informers, cancel) = (config.clone(), informers.clone(), cancel.clone());
            tasks.spawn(async move {
                while !cancel.is_cancelled() {
                    let task = tokio::spawn($controller::run(config.clone(), informers.clone(), cancel.clone()));
                    if let Err(error) = task.await {
                        tracing::error!(controller = stringify!($controller), %error, "controller ended; it is started again");
                    }
                }
            });
        })*};
    }
    start!(
        deployment,
        endpoints,
        endpointslice,
        garbagecollector,
        namespace,
        nodeipam,
        nodelifecycle,
        podgc,
        replicaset,
        rootca,
        serviceaccount,
    );
    while tasks.join_next().await.is_some() {}
}

/// Calls `each` with every object of `informer` now and whenever one changes, until cancelled or the cache ends.
async fn each_change<K, F>(informer: k3s_client::Informer<K>, cancel: CancellationToken, mut each: F)
where
    K: k3s_client::Resource,
    F: FnMut(&K),
{
    let mut changes: Changes<K> = informer.subscribe();
    informer.synced().await;
    informer.list().iter().for_each(|object| each(object));
    loop {
        let change = tokio::select! {
            () = cancel.cancelled() => return,
            change = changes.next() => change,
        };
        match change {
            Some(Change::Applied(object) | Change::Deleted(object)) => each(&object),
            Some(Change::Relisted) => informer.list().iter().for_each(|object| each(object)),
            None => return,
        }
    }
}
