//! `k3s crictl` and `k3s ctr`: the node's runtime on the command line.
//!
//! [`crictl`] speaks CRI v1, with our runtime or any other; commands, flags and outputs are those of cri-tools. [`ctr`] is
//! what k3s's users do with containerd's tool: `ctr images …`, with images that go in and out as archives.
//!
//! - [`endpoint`] finds the socket: flag, variable, `crictl.yaml`, or that of the cluster that runs here;
//! - [`connection`] speaks with it;
//! - [`output`], [`table`], [`protojson`] and [`human`] are the formats;
//! - `crictl/` has a file per family of commands.

#![forbid(unsafe_code)]

mod config_file;
mod connection;
mod crictl;
mod ctr;
mod endpoint;
mod error;
mod human;
mod local;
mod output;
mod protojson;
mod standard;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use futures::future::LocalBoxFuture;

/// Runs one crictl command. `args` are the words after `crictl`; the caller provides the tokio runtime.
pub fn crictl(args: Vec<OsString>) -> LocalBoxFuture<'static, ExitCode> {
    // Boxed so that the commands are compiled with this crate, not with each program that runs them.
    Box::pin(async move { report(crictl::run(args).await) })
}

/// Runs one ctr command. `args` are the words after `ctr`; the caller provides the tokio runtime.
pub fn ctr(args: Vec<OsString>) -> LocalBoxFuture<'static, ExitCode> {
    Box::pin(async move { report(ctr::run(args).await.map(|()| 0)) })
}

fn report(result: Result<u8, error::Error>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => error.report(),
    }
}
