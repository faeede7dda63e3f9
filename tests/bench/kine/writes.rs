//! Create and update values of 1 KiB, with some clients that each wait for their answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use k3s_kine::sqlite::Options;

use crate::{
    client::Client,
    latency::{Latencies, median},
    milliseconds, rest, row,
    server::{Local, Server},
};

/// Rate and latencies of one load.
struct Measured {
    rate: f64,
    p50: Duration,
    p99: Duration,
}

/// `rounds` times etcd, the trait and the gRPC face, one after the other, each with an empty database.
pub async fn run(time: Duration, rounds: usize) {
    for (count, at_least) in [(1, 1.5), (16, 3.0), (256, 3.0)] {
        let (mut etcd, mut ours, mut grpc) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let server = Server::etcd().await;
            etcd.push(load(server.clients(count).await, time).await);
            drop(server);
            let local = Local::open(Options::default());
            ours.push(load(local.clients(count), time).await);
            local.close().await;
            let server = Server::kine().await;
            grpc.push(load(server.clients(count).await, time).await);
        }
        compare(&format!("{count} clients, trait"), &etcd, &ours, at_least);
        compare(&format!("{count} clients, gRPC"), &etcd, &grpc, 1.0);
    }
}

/// What is written to.
#[derive(Debug, Clone, Copy)]
pub enum Face {
    Trait,
    Grpc,
    Etcd,
}

/// One load of one kind, as [`run`] makes it.
pub async fn alone(face: Face, count: usize, time: Duration) {
    let measured = match face {
        Face::Trait => {
            let local = Local::open(Options::default());
            let measured = load(local.clients(count), time).await;
            local.close().await;
            measured
        }
        Face::Grpc => load(Server::kine().await.clients(count).await, time).await,
        Face::Etcd => load(Server::etcd().await.clients(count).await, time).await,
    };
    let [p50, p99] = [measured.p50, measured.p99].map(milliseconds);
    println!("{:.0}/s, p50 {p50}, p99 {p99}", measured.rate);
}

/// The medians of the rounds; the ratio is the median of each round's own.
fn compare(load: &str, etcd: &[Measured], kine: &[Measured], at_least: f64) {
    let p99 = |it: &[Measured]| median(it.iter().map(|it| it.p99.as_secs_f64()));
    let shown = |it: &[Measured]| {
        let p50 = median(it.iter().map(|it| it.p50.as_secs_f64()));
        format!(
            "{:.0}/s, p50 {}, p99 {}",
            median(it.iter().map(|it| it.rate)),
            milliseconds(Duration::from_secs_f64(p50)),
            milliseconds(Duration::from_secs_f64(p99(it)))
        )
    };
    let ratio = median(kine.iter().zip(etcd).map(|(kine, etcd)| kine.rate / etcd.rate));
    row(
        &format!("writes of 1 KiB, {load}"),
        &shown(etcd),
        &shown(kine),
        &format!("× {ratio:.2}"),
        &format!("× {at_least}, p99 no worse"),
        ratio >= at_least && p99(kine) <= p99(etcd),
    );
}

/// Each client creates a key, updates it, and goes on to the next.
async fn load(clients: Vec<Client>, time: Duration) -> Measured {
    rest::wait().await;
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
    Measured {
        rate: latencies.count() as f64 / begin.elapsed().as_secs_f64(),
        p50: latencies.within(0.5),
        p99: latencies.within(0.99),
    }
}
