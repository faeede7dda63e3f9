//! Create and update values of 1 KiB, with some clients that each wait for their answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use k3s_kine::sqlite::Options;

use crate::{
    client::Client,
    latency::Latencies,
    milliseconds, row,
    server::{Local, Server},
};

/// Rate and latencies of one load.
struct Measured {
    rate: f64,
    latencies: Latencies,
}

pub async fn run(time: Duration) {
    for (count, at_least) in [(1, 1.5), (16, 3.0), (256, 3.0)] {
        let mut etcd = {
            let server = Server::etcd().await;
            load(server.clients(count).await, time).await
        };
        let mut ours = {
            let local = Local::open(Options::default());
            load(local.clients(count), time).await
        };
        let mut grpc = {
            let server = Server::kine().await;
            load(server.clients(count).await, time).await
        };
        compare(&format!("{count} clients, trait"), &mut etcd, &mut ours, at_least);
        compare(&format!("{count} clients, gRPC"), &mut etcd, &mut grpc, 1.0);
    }
}

fn compare(load: &str, etcd: &mut Measured, kine: &mut Measured, at_least: f64) {
    let shown = |it: &mut Measured| {
        format!(
            "{:.0}/s, p50 {}, p99 {}",
            it.rate,
            milliseconds(it.latencies.within(0.5)),
            milliseconds(it.latencies.within(0.99))
        )
    };
    let (theirs, ours) = (shown(etcd), shown(kine));
    let ratio = kine.rate / etcd.rate;
    let p99 = kine.latencies.within(0.99) <= etcd.latencies.within(0.99);
    let target = format!("× {at_least}, p99 no worse");
    row(
        &format!("writes of 1 KiB, {load}"),
        &theirs,
        &ours,
        &format!("× {ratio:.2}"),
        &target,
        ratio >= at_least && p99,
    );
}

/// Each client creates a key, updates it, and goes on to the next.
async fn load(clients: Vec<Client>, time: Duration) -> Measured {
    let value = Bytes::from(vec![b'x'; 1024]);
    let begin = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(task, mut client)| {
            let value = value.clone();
            tokio::spawn(async move {
                let mut latencies = Latencies::default();
                for n in 0.. {
                    let key = format!("/registry/pods/bench-{task}/pod-{n}");
                    let started = Instant::now();
                    let revision = client.create(&key, &value).await;
                    let created = Instant::now();
                    client.update(&key, revision, &value).await;
                    latencies.add(created - started);
                    latencies.add(created.elapsed());
                    if begin.elapsed() >= time {
                        break;
                    }
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.merge(task.await.expect("a client"));
    }
    Measured { rate: latencies.count() as f64 / begin.elapsed().as_secs_f64(), latencies }
}
