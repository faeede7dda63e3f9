//! The `k3s` command: every component of a Kubernetes node in one binary.

#![forbid(unsafe_code)]

mod coredns;
mod kubectl;
mod log;
mod server;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
k3s - Kubernetes, attached to nothing

Usage: k3s <command> [options]

Commands:
  server   Run a Kubernetes server with a node of its own
  kubectl  Run kubectl
  coredns  Run the cluster's DNS server (inside its pod)

Options:
  -h, --help     Show help
  -v, --version  Show the version
";

fn main() -> ExitCode {
    // First of all, while there is one thread: the processes that the launcher and the runtime start from this binary.
    if let Err(error) = k3s_rootless::enter() {
        eprintln!("k3s: {error}");
        return ExitCode::FAILURE;
    }
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let mut args: Vec<OsString> = args.collect();
    // Multi-call: a link called kubectl is `k3s kubectl`.
    if Path::new(&program).file_name().is_some_and(|name| name == "kubectl") {
        return kubectl::run(args);
    }
    if args.is_empty() {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let command = args.remove(0);
    match command.to_str() {
        Some("shim") => k3s_runtime::shim::main(args.into_iter()),
        Some("server") => server::run(args),
        Some("kubectl") => kubectl::run(args),
        Some("coredns") => coredns::run(args),
        Some("-v" | "--version") => {
            print!("{}", version::text());
            ExitCode::SUCCESS
        }
        Some("-h" | "--help" | "help") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("k3s: unknown command {:?}; see k3s --help", command.to_string_lossy());
            ExitCode::from(2)
        }
    }
}
