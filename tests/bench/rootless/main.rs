//! The launcher measured against Debian's rootlesskit with the same drivers, against `unshare` and against bare drivers.
//!
//! This program is also what is launched: inside, it is the [`agent`] that serves and sends. Each figure is the median
//! of rounds that take turns, so that what the machine does besides meets all alike.

mod agent;
mod inside;
mod product;
mod traffic;
// The account that end-to-end tests make, too. Their package is large, and built otherwise.
#[path = "../../user.rs"]
mod user;

use std::path::PathBuf;
use std::time::Duration;

use inside::{Inside, Kind};
use traffic::{connections, throughput};
use user::User;

fn main() {
    if k3s_rootless::enter().is_err() {
        std::process::exit(1);
    }
    if let Some(host) = k3s_rootless::Host::from_env() {
        return agent::run(Some(host));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["agent"] => agent::run(None),
        ["launch", data_dir] => inside::launch(data_dir),
        arguments => {
            let part = arguments.iter().position(|argument| *argument == "--only").and_then(|at| arguments.get(at + 1));
            measure(arguments.contains(&"--quick"), part.copied());
        }
    }
}

/// All of it, or one part: `launch`, `in`, `connections` (of it alone), `out`.
fn measure(quick: bool, part: Option<&str>) {
    let wanted = |name| part.is_none_or(|part| part == name);
    let user = User::create("bench-rootless");
    let (rounds, time) = if quick { (2, Duration::from_millis(500)) } else { (5, Duration::from_secs(2)) };
    println!("| what | k3s | rootlesskit | other | ratio |\n|---|---|---|---|---|");
    if wanted("launch") {
        launches(&user, if quick { 5 } else { 20 });
    }
    if wanted("in") || part == Some("connections") {
        into_the_namespace(&user, rounds, time, wanted("in"));
    }
    if wanted("out") {
        out_of_the_namespace(&user, rounds, time);
    }
}

/// From the start of the process to the first instruction of what was launched, with the network there.
fn launches(user: &User, rounds: usize) {
    let (mut ours, mut kits, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (kind, times) in [(Kind::k3s(), &mut ours), (Kind::rootlesskit(), &mut kits), (Kind::Unshare, &mut bare)] {
            times.push(Inside::start(user, &kind).took.as_secs_f64() * 1e3);
        }
    }
    let (ours, kits, bare) = (median(ours), median(kits), median(bare));
    let other = format!("unshare, no network {bare:.1} ms");
    row("launch to first instruction", &format!("{ours:.1} ms"), &format!("{kits:.1} ms"), &other, ours / kits);
    let Some(binary) = std::env::var_os("K3S_BINARY").map(PathBuf::from) else { return };
    let launches: Vec<_> = (0..rounds.min(5)).map(|_| product::launch(user, &binary)).collect();
    let took = median(launches.iter().map(|launch| launch.took.as_secs_f64() * 1e3).collect());
    row(
        "the same of the product, to its first log line",
        &format!("{took:.1} ms"),
        &format!("{kits:.1} ms"),
        "",
        took / kits,
    );
    let kit = Inside::start(user, &Kind::rootlesskit()).parents_memory();
    let (rss, pss) = (|l: &product::Launch| l.memory.0 as f64, |l: &product::Launch| l.memory.1 as f64);
    let ours = (median(launches.iter().map(rss).collect()) as u64, median(launches.iter().map(pss).collect()) as u64);
    row("the product's launcher, resident memory", &mib(ours), &mib(kit), "", ours.0 as f64 / kit.0 as f64);
}

fn mib((rss, pss): (u64, u64)) -> String {
    format!("{:.1} MiB ({:.1} proportional)", rss as f64 / 1024.0, pss as f64 / 1024.0)
}

/// By a port of the host: connections, and before them `throughput` if it is wanted.
fn into_the_namespace(user: &User, rounds: usize, time: Duration, with_throughput: bool) {
    let mut ours = Inside::start(user, &Kind::k3s());
    let mut kit = Inside::start(user, &Kind::rootlesskit());
    ours.ask("direct 127.0.0.1:17001");
    ours.ask("serve 127.0.0.1:17000");
    ours.ask("publish 127.0.0.1:17002 127.0.0.1:17000");
    kit.ask("serve 127.0.0.1:17000");
    kit.publish("127.0.0.1:17003:17000/tcp");
    let plain = agent::serve(std::net::TcpListener::bind("127.0.0.1:17004").expect("a port"));
    let measured = |measure: &dyn Fn(u16, Duration) -> f64| {
        let mut all: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            for (of, port) in all.iter_mut().zip([17001, 17002, 17003, 17004]) {
                of.push(measure(port, time));
            }
        }
        all.map(median)
    };
    if with_throughput {
        let [direct, relay, kits, loopback] = measured(&throughput);
        let (gigabits, other) = (|rate: f64| format!("{rate:.2} Gbit/s"), format!("loopback {loopback:.2} Gbit/s"));
        row(
            "TCP in, server accepts itself (ratio to loopback)",
            &gigabits(direct),
            &gigabits(kits),
            &other,
            direct / loopback,
        );
        row("TCP in, relay (ratio to loopback)", &gigabits(relay), &gigabits(kits), &other, relay / loopback);
    }
    let [direct, relay, kits, loopback] = measured(&connections);
    let (rate, other) = (|rate: f64| format!("{rate:.0} /s"), format!("loopback {loopback:.0} /s"));
    row("new connections, server accepts itself", &rate(direct), &rate(kits), &other, direct / kits);
    row("new connections, relay", &rate(relay), &rate(kits), &other, relay / kits);
    let (ours, kits) = (ours.parents_memory(), kit.parents_memory());
    row("parent's resident memory", &mib(ours), &mib(kits), "", ours.0 as f64 / kits.0 as f64);
    drop(plain);
}

/// To the host's loopback, by the gateway's address.
fn out_of_the_namespace(user: &User, rounds: usize, time: Duration) {
    let sink = agent::serve(std::net::TcpListener::bind("127.0.0.1:17010").expect("a port"));
    for (driver, mtu) in [("slirp4netns", 1500), ("slirp4netns", 65520), ("pasta", 65520)] {
        let mut all: [Vec<f64>; 3] = Default::default();
        let kinds = [Kind::out(driver, mtu), Kind::rootlesskit_out(mtu), Kind::bare(driver, mtu)];
        for _ in 0..rounds {
            for (of, kind) in all.iter_mut().zip(&kinds) {
                // Debian's rootlesskit has no pasta.
                if driver == "pasta" && matches!(kind, Kind::Rootlesskit { .. }) {
                    continue;
                }
                let mut inside = Inside::start(user, kind);
                let rate = inside.ask(&format!("send {}:17010 {}", kind.gateway(), time.as_millis()));
                of.push(rate.parse().unwrap_or_else(|_| panic!("{kind:?}: {rate}")));
            }
        }
        let [ours, kits, bare] = all.map(median);
        let kits = if kits.is_nan() { "-".to_owned() } else { format!("{kits:.2} Gbit/s") };
        let other = format!("bare {driver} {bare:.2} Gbit/s");
        row(
            &format!("TCP out, {driver}, MTU {mtu} (ratio to bare)"),
            &format!("{ours:.2} Gbit/s"),
            &kits,
            &other,
            ours / bare,
        );
    }
    drop(sink);
}

fn row(what: &str, ours: &str, kits: &str, other: &str, ratio: f64) {
    println!("| {what} | {ours} | {kits} | {other} | {ratio:.2} |");
}

/// NaN of nothing.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
