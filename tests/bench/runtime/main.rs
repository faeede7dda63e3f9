//! The runtime against Debian's containerd with runc, and against bare crun: `./tests/bench/run runtime [--quick]
//! [--only PART]`.
//!
//! Each runtime is driven by the same client of CRI, on pods of the host's network (so that no network plugin is
//! measured), in one run. Times are until the container's first instruction: it writes the monotonic clock into a file.

#[path = "../../../src/runtime/tests/runtime/archive.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod archive;
mod cri;
mod crun;
mod memory;
mod pull;
mod runtimes;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use runtimes::Target;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Extent {
    pub rounds: usize,
    pub pods: usize,
    /// Bytes of each of ten layers.
    pub layer: usize,
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("shim") => k3s_runtime::shim::main(args),
        Some("serve") => return runtimes::serve(Path::new(&args.next().unwrap_or_default())),
        Some("now") => return runtimes::write_now(Path::new(&args.next().unwrap_or_default())),
        _ => {}
    }
    let quick = std::env::args().any(|arg| arg == "--quick");
    let extent = if quick {
        Extent { rounds: 10, pods: 10, layer: 2 << 20 }
    } else {
        Extent { rounds: 100, pods: 100, layer: 20 << 20 }
    };
    let mut words = std::env::args().skip_while(|arg| arg != "--only");
    let only = words.nth(1);
    if let Some(part) = only.as_ref().filter(|part| !PARTS.contains(&part.as_str())) {
        eprintln!("bench-runtime: there is no part {part:?}, only {}", PARTS.join(", "));
        return ExitCode::FAILURE;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
    tokio.block_on(measure(extent, |part| only.as_deref().is_none_or(|only| only == part)));
    ExitCode::SUCCESS
}

/// What can be measured alone.
const PARTS: [&str; 4] = ["start", "many", "pull", "memory"];

async fn measure(extent: Extent, wanted: impl Fn(&str) -> bool) {
    println!("| work | k3s | containerd, runc | crun |\n|---|---|---|---|");
    let (mut alone, mut together, mut pulled, mut held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for target in [Target::K3s, Target::Containerd] {
        let directory = tempfile::tempdir().expect("a folder");
        let server = runtimes::start(target, directory.path()).await;
        if wanted("start") {
            alone.push(percentiles(cri::alone(&server, extent.rounds).await));
        }
        if wanted("many") {
            together.push(milliseconds(cri::together(&server, extent.pods).await));
        }
        if wanted("memory") {
            held.push(memory::of_idle_pods(&server, extent.pods).await);
        }
        if wanted("pull") {
            pulled.push(milliseconds(pull::pull(&server, extent.layer).await));
        }
        server.stop().await;
    }
    if wanted("start") {
        let bare = crun::alone(extent.rounds).map_or_else(|words| format!("does not run here: {words}"), percentiles);
        row("sandbox and container, until its first instruction: median, p99", &alone, &bare);
    }
    if wanted("many") {
        row(&format!("{} pods at once, until the last one's first instruction", extent.pods), &together, "");
    }
    if wanted("pull") {
        row(&format!("pull and unpack {} MiB in 10 layers", (extent.layer * 10) >> 20), &pulled, "");
    }
    if wanted("memory") {
        let shims: Vec<String> = held.iter().map(|held| kib(held.shim)).collect();
        row("memory of an idle pod, its shim included, without the workload", &shims, "");
        let server: Vec<String> = held.iter().map(|held| kib(held.server)).collect();
        row(&format!("the runtime's process, {} idle pods more than none", extent.pods), &server, "");
    }
}

fn row(what: &str, values: &[String], crun: &str) {
    println!("| {what} | {} | {} | {crun} |", values[0], values[1]);
}

fn kib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// The median and what one in a hundred is slower than.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    format!("{:.1} ms, {:.1} ms", at(50), at(99))
}
