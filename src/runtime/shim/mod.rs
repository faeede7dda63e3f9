//! The shim: one small process per pod sandbox that outlives k3s.
//!
//! It is the same binary, started as `k3s shim <state directory>`: a single thread, no async runtime, a poll loop. It
//! lives in the pod's network, IPC and UTS namespaces (which so need no pause process and no pinned mounts), and is
//! the first process of a pid namespace, so that the kernel ends every container when the shim is killed. It keeps the
//! node's mount namespace: log files, bundles and volumes are where the runtime says they are.

pub(crate) mod client;
pub(crate) mod clock;
mod container;
mod log;
mod oci_runtime;
pub(crate) mod pod_processes;
mod progress;
pub(crate) mod protocol;
mod reap;
mod sandbox;
mod serve;
pub(crate) mod socket;
mod start;
mod user_namespace;
mod wait;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use k3s_cri::PidMode;

use self::protocol::{Message, SandboxSetup};
use crate::syscall::{self, Forked};

/// Name of the socket in the sandbox's state directory on which a shim takes connections.
pub(crate) const SOCKET: &str = "shim.sock";
/// Name of the file with the [`SandboxSetup`].
pub(crate) const SETUP: &str = "setup.json";

/// Runs the hidden subcommand `k3s shim <state directory>`; `args` are those after `shim`. Must be called before the
/// process has a second thread. Standard input is the socket to the runtime that started it.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ! {
    let Some(directory) = args.next().map(PathBuf::from) else {
        eprintln!("k3s shim is started by k3s itself");
        syscall::exit_now(2);
    };
    // SAFETY: whoever starts a shim leaves the socket there, and nothing else in this process uses it.
    let runtime = unsafe { OwnedFd::from_raw_fd(0) };
    // Number 0 stays taken, now by /dev/null: the next descriptor opened must not become standard input.
    let Ok(moved) = rustix::io::fcntl_dupfd_cloexec(&runtime, 3) else {
        syscall::exit_now(2);
    };
    std::mem::forget(runtime);
    let runtime = moved;
    if let Ok(null) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(null.as_fd());
    }
    match begin(directory, &runtime) {
        Ok(()) => syscall::exit_now(0),
        Err(detail) => {
            let _ = socket::send(&runtime, &Message::Failed { detail }, &[]);
            syscall::exit_now(1)
        }
    }
}

/// Makes the namespaces and goes on in a child that is the first process of its pid namespace.
fn begin(directory: PathBuf, runtime: &OwnedFd) -> Result<(), String> {
    let path = directory.join(SETUP);
    let bytes = std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let setup: SandboxSetup = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let users = sandbox::enter(&setup)?;
    // A pid namespace can't be left for one above it, so a pod that sees the node's processes has a shim in that one.
    let namespaces = if setup.pid == PidMode::Host { 0 } else { libc::CLONE_NEWPID };
    // SAFETY: `main` is called before there is a second thread.
    match unsafe { syscall::fork(namespaces) } {
        Ok(Forked::Parent { .. }) => Ok(()),
        Ok(Forked::Child) => {
            let copy = runtime.try_clone().map_err(|error| format!("duplicate socket: {error}"))?;
            serve::Shim::new(directory, setup, users, copy)?.run()
        }
        Err(error) => Err(format!("clone3: {error}")),
    }
}
