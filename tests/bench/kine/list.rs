//! Lists of 10,000 keys of 1 KiB.

use std::time::{Duration, Instant};

use bytes::Bytes;
use k3s_kine::sqlite::Options;

use crate::{
    client::Client,
    latency::{Latencies, median},
    milliseconds, rest, row,
    server::{Local, Server},
};

const KEYS: usize = 10_000;
/// Of each database, in turn, in each round.
const LISTS: usize = 10;

/// All three databases are filled, then listed in turn, `rounds` times.
pub async fn run(rounds: usize) {
    let etcd = Server::etcd().await;
    let local = Local::open(Options::default());
    let kine = Server::kine().await;
    let mut clients =
        [fill(etcd.clients(64).await).await, fill(local.clients(64)).await, fill(kine.clients(64).await).await];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            times.push(lists(client).await.as_secs_f64());
        }
    }
    local.close().await;
    let [etcd, ours, grpc] = times;
    for (face, kine, at_least) in [("trait", ours, 3.0), ("gRPC", grpc, 1.0)] {
        let ratio = median(etcd.iter().zip(&kine).map(|(etcd, kine)| etcd / kine));
        let shown = |times: &[f64]| milliseconds(Duration::from_secs_f64(median(times.iter().copied())));
        row(
            &format!("list of 10,000 × 1 KiB, {face}"),
            &shown(&etcd),
            &shown(&kine),
            &format!("× {ratio:.2}"),
            &format!("× {at_least}"),
            ratio >= at_least,
        );
    }
}

/// Fills it with all clients; returns one.
async fn fill(clients: Vec<Client>) -> Client {
    let value = Bytes::from(vec![b'x'; 1024]);
    let one = clients[0].clone();
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
    one
}

/// The median time of a list.
async fn lists(client: &mut Client) -> Duration {
    rest::wait().await;
    let mut latencies = Latencies::default();
    for _ in 0..LISTS {
        let started = Instant::now();
        assert_eq!(client.list("/list/").await, KEYS * 1024);
        latencies.add(started.elapsed());
    }
    latencies.within(0.5)
}
