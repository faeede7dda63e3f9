//! The benchmark of the datastore, against Debian's etcd on the same disk, in one run.
//!
//! The etcd clients are the same code for etcd and for kine's gRPC face, each server is a process of its own, and what
//! goes through the trait is in this process, as in the API server. What is compared is measured in turn, several times,
//! so that a machine that is busy is so for both; figures are medians. `--help` names the options.

mod churn;
mod client;
mod latency;
mod list;
mod memory;
mod options;
mod perf;
mod rest;
mod server;
mod watch;
mod writes;

use std::{process::ExitCode, time::Duration};

use options::{Options, Part, USAGE, number};
use writes::Face;

/// How much is measured.
struct Scale {
    /// Each load of writes.
    writes: Duration,
    watch: Duration,
    updates: i64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // This program again, as a server or to be measured.
        ["serve", database, address] => {
            server::serve(database, address);
            Ok(())
        }
        ["memory", database] => {
            memory::child(database);
            Ok(())
        }
        ["load", face, clients, seconds] => load(face, clients, seconds),
        _ => Options::parse(&args).map(|options| measure(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("bench-kine: {wrong}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) {
    if options.help {
        return println!("{USAGE}");
    }
    let scale = if options.quick {
        Scale { writes: Duration::from_secs(1), watch: Duration::from_secs(3), updates: 100_000 }
    } else {
        Scale { writes: Duration::from_secs(5), watch: Duration::from_secs(10), updates: 1_000_000 }
    };
    rest::allow(options.rest);
    println!("| load | etcd | kine | ratio | must reach | |\n|---|---|---|---|---|---|");
    runtime().block_on(async {
        if options.wants(Part::Writes) {
            writes::run(scale.writes, options.rounds()).await;
        }
        if options.wants(Part::List) {
            list::run(options.rounds()).await;
        }
        if options.wants(Part::Watch) {
            watch::run(scale.watch).await;
        }
        if options.wants(Part::Churn) {
            churn::run(scale.updates).await;
        }
        if options.wants(Part::Perf) {
            perf::run().await;
        }
    });
    if options.wants(Part::Memory) {
        memory::run();
    }
}

/// One load of one kind, for a profiler.
fn load(face: &str, clients: &str, seconds: &str) -> Result<(), String> {
    let face = match face {
        "trait" => Face::Trait,
        "grpc" => Face::Grpc,
        "etcd" => Face::Etcd,
        unknown => return Err(format!("load wants trait, grpc or etcd, not {unknown}")),
    };
    let time = Duration::from_secs(number("SECONDS", seconds)?);
    runtime().block_on(writes::alone(face, number("CLIENTS", clients)?, time));
    Ok(())
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
