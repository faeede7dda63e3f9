//! The benchmark of the datastore, against Debian's etcd on the same disk, in one run.
//!
//! The etcd clients are the same code for etcd and for kine's gRPC face, each server is a process of its own, and what
//! goes through the trait is in this process, as in the API server. What is compared is measured in turn, several times,
//! so that a machine that is busy is so for both; figures are medians. `--quick` measures shorter and once, for a first
//! look; `--only writes|list|watch|churn|perf|memory` measures one part; `--rounds N` (5) is how often etcd and kine take
//! turns; `--rest SECONDS` (0) is how long to wait, each time, for a moment in which nobody else computes. The folder is
//! below `$TMPDIR`. For a profiler, `load trait|grpc|etcd CLIENTS SECONDS` writes and does nothing else.

mod churn;
mod client;
mod latency;
mod list;
mod memory;
mod perf;
mod rest;
mod server;
mod watch;
mod writes;

use std::time::Duration;

/// How much is measured.
struct Scale {
    /// Each load of writes.
    writes: Duration,
    watch: Duration,
    updates: i64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // This program again, as a server or to be measured.
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", database, address] => return server::serve(database, address),
        ["memory", database] => return memory::child(database),
        ["load", face, clients, seconds] => {
            let number = |text: &str| text.parse().expect("a number");
            let time = Duration::from_secs(number(seconds));
            return runtime().block_on(writes::alone(face, usize::try_from(number(clients)).expect("clients"), time));
        }
        _ => {}
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let scale = if quick {
        Scale { writes: Duration::from_secs(1), watch: Duration::from_secs(3), updates: 100_000 }
    } else {
        Scale { writes: Duration::from_secs(5), watch: Duration::from_secs(10), updates: 1_000_000 }
    };
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let rounds = option("--rounds").map_or(if quick { 1 } else { 5 }, |rounds| rounds.parse().expect("--rounds N"));
    let only = option("--only");
    rest::allow(Duration::from_secs(option("--rest").map_or(0, |time| time.parse().expect("--rest SECONDS"))));
    let wanted = |part: &str| only.is_none_or(|only| only == part);

    println!("| load | etcd | kine | ratio | must reach | |\n|---|---|---|---|---|---|");
    runtime().block_on(async {
        if wanted("writes") {
            writes::run(scale.writes, rounds).await;
        }
        if wanted("list") {
            list::run(rounds).await;
        }
        if wanted("watch") {
            watch::run(scale.watch).await;
        }
        if wanted("churn") {
            churn::run(scale.updates).await;
        }
        if only.map_or(!quick, |only| only == "perf") {
            perf::run().await;
        }
    });
    if wanted("memory") {
        memory::run();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// A line of the table. `reached` says whether the target was.
fn row(load: &str, etcd: &str, kine: &str, ratio: &str, target: &str, reached: bool) {
    println!("| {load} | {etcd} | {kine} | {ratio} | {target} | {} |", if reached { "yes" } else { "**no**" });
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
