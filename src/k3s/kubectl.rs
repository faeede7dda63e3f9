//! `k3s kubectl`, and how a tool runs.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs kubectl.
pub fn run(args: Vec<OsString>) -> ExitCode {
    install_crypto();
    on_one_thread(k3s_kubectl::run(args.into_iter()))
}

/// Runs a tool: it does one thing and ends.
pub fn on_one_thread(tool: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(tool);
            // A read of standard input that still waits must not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("k3s: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Chooses ring for every TLS connection of this process.
pub fn install_crypto() {
    // An error says that it is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
