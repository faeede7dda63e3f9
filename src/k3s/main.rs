//! The `k3s` command: every component of a Kubernetes node in one binary.

#![forbid(unsafe_code)]

mod agent;
mod check_config;
mod commands;
mod completion;
mod coredns;
mod cri_tools;
mod global;
mod kine;
mod kubectl;
mod server;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use commands::{COMMANDS, MISSING, usage};

/// What a command line that makes no sense ends with.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    // What the caller left open is for this process alone: pods outlive it, and would hold the caller's locks and pipes.
    if let Err(error) = k3s_runtime::close_from_on_exec(3) {
        eprintln!("k3s: cannot keep open files from pods: {error}; Linux 5.11 or newer is needed");
        return ExitCode::FAILURE;
    }
    // First of all, while there is one thread: the processes that the launcher and the runtime start from this binary.
    if let Err(error) = k3s_rootless::enter() {
        eprintln!("k3s: {error}");
        return ExitCode::FAILURE;
    }
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    // Multi-call: a link called kubectl is `k3s kubectl`.
    let called = Path::new(&program).file_name().and_then(|name| name.to_str());
    if let Some(name) = called.filter(|name| commands::LINKS.contains(name)) {
        return run(name, args);
    }
    if called.is_some_and(|name| commands::OCI_LINKS.contains(&name)) {
        return run("oci", args);
    }
    match args.first().and_then(|first| first.to_str()) {
        Some("-v" | "--version") => {
            print!("{}", version::text());
            return ExitCode::SUCCESS;
        }
        None if args.is_empty() => {
            print!("{}", usage());
            return ExitCode::SUCCESS;
        }
        Some("-h" | "--help" | "help") => {
            print!("{}", usage());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let mut args = match global::moved_behind_the_command(args) {
        Ok(args) => args,
        Err(message) => return misuse(&message),
    };
    let command = args.remove(0);
    match command.to_str() {
        Some(name) => run(name, args),
        None => misuse(&format!("unknown command {command:?}")),
    }
}

fn run(name: &str, args: Vec<OsString>) -> ExitCode {
    // The shim is no command of anybody's; the runtime starts it, once a pod.
    if name == "shim" {
        k3s_runtime::shim::main(args.into_iter());
    }
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return (command.run)(args);
    }
    if MISSING.contains(&name) {
        return misuse(&format!("{name} is not available in this version"));
    }
    let nearest = k3s_env::nearest(name, COMMANDS.iter().map(|command| command.name));
    misuse(&format!("unknown command {name:?}{nearest}"))
}

fn misuse(message: &str) -> ExitCode {
    eprintln!("k3s: {message}; see k3s --help");
    ExitCode::from(MISUSE)
}
