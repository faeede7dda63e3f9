//! The embedded kubectl: `k3s kubectl …`, or the binary called by the name `kubectl`.
//!
//! [`run`] reads the words behind `kubectl`, does what they say to the cluster of the kubeconfig, and gives the exit code
//! of the real kubectl. Objects are `serde_json::Value`s and resources rows of the server's discovery, so that a custom
//! resource is handled as a built-in one; tables come from the server.
//!
//! - [`kubeconfig`] finds the cluster, [`cluster`] speaks to it, [`discovery`] knows its resources;
//! - [`target`] turns `pods a b`, `deploy/x`, `-l app=x` and `-f FILE` ([`manifest`]) into objects;
//! - [`commands`] has a file per command; [`describe`] one per kind; [`output`] the formats of `-o`.

mod arguments;
mod cluster;
mod commands;
mod describe;
mod discovery;
mod error;
mod flags;
mod kubeconfig;
mod manifest;
mod output;
mod pods;
mod selector;
mod target;
pub mod terminal;
mod watch;

pub use output::yaml::to_string as yaml;

use std::ffi::OsString;
use std::process::ExitCode;

use futures::future::LocalBoxFuture;

/// Runs one kubectl command. `args` are the words after `kubectl`.
///
/// Uses the process's standard streams. The caller provides the tokio runtime (with I/O, time and signals) and has
/// installed rustls's ring provider. A thread that waits for standard input may outlive the call: it holds no task of the
/// runtime.
pub fn run(args: impl Iterator<Item = OsString>) -> LocalBoxFuture<'static, ExitCode> {
    // Boxed so that the commands are compiled with this crate, not with each program that runs them.
    Box::pin(execute(args.collect()))
}

async fn execute(args: Vec<OsString>) -> ExitCode {
    match commands::run(args.into_iter()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
