//! The benchmark of the API server, alone, over SQLite with its fsync: a real `k3s server` behind TLS, named by
//! `K3S_BINARY`.
//!
//! Load comes from wrk on the same processors. For reads nginx is the peer, which serves the same bytes from files, in
//! turns with the server; its figures say how fast the machine is at that moment. Writes have no peer, but the rate at
//! which the disk takes single small writes stands beside them. `--quick` measures shorter and once;
//! `--only memory|creates|reads|watches` measures one part.

mod client;
mod nginx;
mod objects;
mod server;
mod watches;
mod wrk;

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;

use client::Client;
use nginx::Nginx;
use objects::COLLECTION;
use server::Server;
use watches::{Spread, Watches};
use wrk::{Rate, Wrk};

/// How long an idle server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 16;
const IDLE_WATCHES: usize = 10_000;
const WATCHERS: usize = 1_000;

/// How much is measured.
struct Scale {
    time: Duration,
    rounds: usize,
    events: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = match arguments.iter().any(|argument| argument == "--quick") {
        true => Scale { time: Duration::from_secs(2), rounds: 1, events: 10 },
        false => Scale { time: Duration::from_secs(5), rounds: 5, events: 50 },
    };
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    allow_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("| what | k3s | beside it | ratio | target | |\n|---|---|---|---|---|---|");
    runtime.block_on(async {
        if wanted("memory") {
            idle().await;
        }
        if wanted("creates") {
            creates(&scale).await;
        }
        if wanted("reads") {
            reads(&scale).await;
        }
        if wanted("watches") {
            idle_watches().await;
            fan_out(&scale).await;
        }
    });
}

/// Thousands of connections: a descriptor for each, here and in the server, which inherits the limit.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("the limit of open files");
}

async fn idle() {
    let server = Server::start().await;
    tokio::time::sleep(REST).await;
    let resident = server.resident();
    row("resident, idle", &mib(resident), "", "", "30 MiB", resident <= 30.0);
}

async fn creates(scale: &Scale) {
    let wrk = Wrk::new();
    let (mut rates, mut syncs) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        let server = Server::start().await;
        syncs.push(syncs_per_second());
        rates.push(wrk.create(&server.url(), CONNECTIONS, scale.time, &format!("round{round}")).requests);
    }
    let rate = median(&mut rates);
    let beside = format!("disk: {:.0} synced writes/s", median(&mut syncs));
    row("create, 500 bytes, 16 connections", &per_second(rate), &beside, "", "7,000/s", rate >= 7_000.0);
}

/// How often the disk takes a small write and says that it is safe, one after the other.
fn syncs_per_second() -> f64 {
    let mut file = tempfile::tempfile().expect("a file");
    let (begin, mut count) = (Instant::now(), 0.0);
    while begin.elapsed() < Duration::from_millis(500) {
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).expect("a write");
        count += 1.0;
    }
    count / begin.elapsed().as_secs_f64()
}

async fn reads(scale: &Scale) {
    let server = Server::start().await;
    objects::fill(&server).await;
    tokio::time::sleep(REST).await;
    row("resident with 13,800 objects", &mib(server.resident()), "", "", "", true);
    let object = format!("{COLLECTION}/object-77");
    let (one, all) = (body(&server, &object).await, body(&server, COLLECTION).await);
    let nginx = Nginx::start(&[("one", &one), ("all", &all)]).await;
    let wrk = Wrk::new();
    let measure = |path: &str, file: &str, connections: usize, of: fn(Rate) -> f64| {
        let (mut own, mut peer, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let ours = of(wrk.read(&format!("{}{path}", server.url()), connections, scale.time));
            let theirs = of(wrk.read(&nginx.url(file), connections, scale.time));
            own.push(ours);
            peer.push(theirs);
            ratios.push(ours / theirs);
        }
        (median(&mut own), median(&mut peer), median(&mut ratios))
    };
    let (own, peer, ratio) = measure(&object, "one", CONNECTIONS, |rate| rate.requests);
    let what = format!("get, {} bytes, 16 connections", one.len());
    let beside = format!("nginx {}", per_second(peer));
    row(&what, &per_second(own), &beside, &format!("{ratio:.2}"), "30,000/s", own >= 30_000.0);
    let (own, peer, ratio) = measure(COLLECTION, "all", CONNECTIONS, |rate| rate.bytes / 1e6);
    let what = format!("list of 13,800, {:.1} MB, 16 connections", all.len() as f64 / 1e6);
    let beside = format!("nginx {peer:.0} MB/s");
    row(&what, &format!("{own:.0} MB/s"), &beside, &format!("{ratio:.2}"), "1,000 MB/s", own >= 1_000.0);
    tokio::time::sleep(REST).await;
    row("resident after that", &mib(server.resident()), "", "", "", true);
}

async fn body(server: &Server, path: &str) -> Bytes {
    let mut client = Client::connect(server.address()).await.expect("a connection");
    let (code, body) = client.get(path).await.expect("an answer");
    assert!(code.is_success(), "{path} is answered with {code}");
    body
}

async fn idle_watches() {
    let cases =
        [(Spread::Shared, "in 40 HTTP/2 connections"), (Spread::Apart, "each an HTTP/1.1 connection of its own")];
    for (spread, how) in cases {
        let server = Server::start().await;
        tokio::time::sleep(REST).await;
        let before = server.resident();
        let watches = Watches::open(&server, IDLE_WATCHES, spread).await;
        tokio::time::sleep(REST).await;
        let after = server.resident();
        drop(watches);
        let each = (after - before) * 1024.0 / IDLE_WATCHES as f64;
        let beside = format!("{before:.1} MiB without; {each:.1} KiB each");
        row(&format!("resident, 10,000 idle watches, {how}"), &mib(after), &beside, "", "100 MiB", after <= 100.0);
    }
}

async fn fan_out(scale: &Scale) {
    let cases =
        [(Spread::Shared, "in 4 HTTP/2 connections"), (Spread::Apart, "each an HTTP/1.1 connection of its own")];
    for (spread, how) in cases {
        let server = Server::start().await;
        let watches = Watches::open(&server, WATCHERS, spread).await;
        let mut took: Vec<f64> =
            watches.events(&server, scale.events).await.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let middle = median(&mut took);
        let longest = took.last().copied().unwrap_or_default();
        let what = format!("a write until the last of 1,000 watches has it, {how}");
        row(&what, &format!("{middle:.1} ms"), &format!("longest {longest:.1} ms"), "", "20 ms", middle <= 20.0);
    }
}

/// A line of the table. `reached` says whether the target was, if there is one.
fn row(what: &str, own: &str, beside: &str, ratio: &str, target: &str, reached: bool) {
    let reached = match (target.is_empty(), reached) {
        (true, _) => "",
        (false, true) => "yes",
        (false, false) => "**no**",
    };
    println!("| {what} | {own} | {beside} | {ratio} | {target} | {reached} |");
}

fn mib(mebibytes: f64) -> String {
    format!("{mebibytes:.1} MiB")
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}

/// The middle one of some figures, which are in order afterwards.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
