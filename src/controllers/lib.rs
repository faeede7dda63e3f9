//! The control loops of kube-controller-manager, one file each.
//!
//! Each is a function of the shared caches ([`Informers`]) and a work queue ([`queue::Queue`]): changes add keys, a key
//! is reconciled by one task at a time, what fails comes back.

#![forbid(unsafe_code)]

mod clusterroleaggregation;
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

use futures::future::BoxFuture;
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

/// Makes the client of a controller, which acts as the service account of that name in `kube-system`: each has no more
/// rights than the role `system:controller:NAME` gives.
pub type ClientFor = dyn Fn(&str) -> kube::Client + Send + Sync;

/// What a controller works with.
struct Context {
    config: Config,
    informers: Informers,
    /// The controller's own.
    client: kube::Client,
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
///
/// `informers` watch as `system:kube-controller-manager`, which may read everything.
pub fn run(
    config: Config,
    informers: Informers,
    client_for: &ClientFor,
    cancel: CancellationToken,
) -> BoxFuture<'_, ()> {
    // Boxed so that the loops are compiled with this crate, not with each program that runs them.
    Box::pin(run_all(config, informers, client_for, cancel))
}

async fn run_all(config: Config, informers: Informers, client_for: &ClientFor, cancel: CancellationToken) {
    let mut tasks = JoinSet::new();
    macro_rules! start {
        ($($controller:ident as $account:literal),* $(,)?) => {$({
            let (informers, client) = (informers.clone(), client_for($account));
            let context = Arc::new(Context { config: config.clone(), informers, client });
            let cancel = cancel.clone();
            tasks.spawn(async move {
                while !cancel.is_cancelled() {
                    let task = tokio::spawn($controller::run(context.clone(), cancel.clone()));
                    if let Err(error) = task.await {
                        tracing::error!(controller = $account, %error, "controller ended; it is started again");
                    }
                }
            });
        })*};
    }
    start!(
        clusterroleaggregation as "clusterrole-aggregation-controller",
        deployment as "deployment-controller",
        endpoints as "endpoint-controller",
        endpointslice as "endpointslice-controller",
        garbagecollector as "generic-garbage-collector",
        namespace as "namespace-controller",
        nodeipam as "node-controller",
        nodelifecycle as "node-controller",
        podgc as "pod-garbage-collector",
        replicaset as "replicaset-controller",
        rootca as "root-ca-cert-publisher",
        serviceaccount as "service-account-controller",
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
