//! The product itself, which is larger than this program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::agent::now;
use crate::inside::memory;
use crate::user::User;

/// One launch of `k3s server --rootless`.
pub struct Launch {
    /// From the start of the process to the first line that the server inside logs.
    pub took: Duration,
    /// Of the launcher, in KiB: resident, and its share.
    pub memory: (u64, u64),
}

/// Launches the binary once, waits until it serves, and ends it.
pub fn launch(user: &User, binary: &Path) -> Launch {
    let begin = now();
    let mut command = user.command(binary);
    command.args(["server", "--rootless", "--https-listen-port=17443", "--disable-agent"]);
    command.arg(format!("--data-dir={}", user.home.join("product").display()));
    command.arg(format!("--write-kubeconfig={}", user.home.join("product.yaml").display()));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("a command that starts");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a server that logs");
    let took = Duration::from_nanos(now() - begin);
    assert!(line.contains("starting k3s"), "{} does not start: {line}", binary.display());
    // It would wait for a reader.
    let reader = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    std::thread::sleep(Duration::from_secs(3));
    let memory = memory(child.id());
    let launcher = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(launcher, nix::sys::signal::Signal::SIGTERM).expect("a launcher that runs");
    child.wait().expect("a launcher that ends");
    reader.join().expect("a reader").expect("its log to the end");
    Launch { took, memory }
}
