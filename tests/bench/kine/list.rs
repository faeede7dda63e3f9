//! Lists of 10,000 keys of 1 KiB.

use std::time::{Duration, Instant};

use bytes::Bytes;
use k3s_kine::sqlite::Options;

use crate::{
    client::Client,
    latency::Latencies,
    milliseconds, row,
    server::{Local, Server},
};

const KEYS: usize = 10_000;
const LISTS: usize = 30;

pub async fn run() {
    let server = Server::etcd().await;
    let etcd = median(server.clients(64).await).await;
    drop(server);
    let local = Local::open(Options::default());
    let ours = median(local.clients(64)).await;
    let server = Server::kine().await;
    let grpc = median(server.clients(64).await).await;
    for (face, time, at_least) in [("trait", ours, 3.0), ("gRPC", grpc, 1.0)] {
        let ratio = etcd.as_secs_f64() / time.as_secs_f64();
        row(
            &format!("list of 10,000 × 1 KiB, {face}"),
            &milliseconds(etcd),
            &milliseconds(time),
            &format!("× {ratio:.2}"),
            &format!("× {at_least}"),
            ratio >= at_least,
        );
    }
}

/// Fills it with all clients, then lists with one.
async fn median(clients: Vec<Client>) -> Duration {
    let value = Bytes::from(vec![b'x'; 1024]);
    let mut one = clients[0].clone();
    let count = clients.len();
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(first, mut client)| {
            let value = value.clone();
            tokio::spawn(async move {
                for n in (first..KEYS).step_by(count) {
                    client.create(&format!("/list/pod-{n:05}"), &value).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a client");
    }
    let mut latencies = Latencies::default();
    for _ in 0..LISTS {
        let started = Instant::now();
        assert_eq!(one.list("/list/").await, KEYS * 1024);
        latencies.add(started.elapsed());
    }
    latencies.within(0.5)
}
