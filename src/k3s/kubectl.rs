//! `k3s kubectl`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs kubectl on one thread: it does one thing and ends.
pub fn run(args: Vec<OsString>) -> ExitCode {
    install_crypto();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(k3s_kubectl::run(args.into_iter()));
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
