//! `k3s agent`.

use std::ffi::OsString;
use std::process::ExitCode;

use k3s_env::Agent;

use crate::server::default_config;

/// Reads the configuration, and says that this version can't do what it asks for.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let config = match Agent::resolve(args, |name| std::env::var(name).ok(), &default_config()) {
        Ok(config) => config,
        Err(k3s_env::Error::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("k3s agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    let server = config.server.map(|server| format!(" at {server}")).unwrap_or_default();
    eprintln!("k3s agent: joining a cluster{server} is not available in this version; run k3s server instead");
    ExitCode::FAILURE
}
