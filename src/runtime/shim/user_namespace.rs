//! A pod's own user namespace (`hostUsers: false`). The shim holds it and stays out of it: it needs the node's rights.
//!
//! The pod's network, IPC and UTS namespaces belong to it, so that the pod's root may mount `/sys` and set what is the
//! pod's. They come from a process that goes in, makes them and ends when the shim has entered them:
//!
//! ```text
//! shim ── fork ──► unshare user, network, IPC, UTS
//!   writes the id maps ◄── made
//!        ── go on ──► host name, loopback, sysctls
//!   joins all but the user namespace ◄── done
//! ```

use std::fs::File;
use std::os::fd::OwnedFd;

use k3s_cri::{IdMapping, IdMappings};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use serde::{Deserialize, Serialize};

use super::protocol::SandboxSetup;
use super::{pod_processes, sandbox, socket};
use crate::executor;
use crate::syscall::{self, Forked};

/// What the two say to each other.
#[derive(Serialize, Deserialize)]
enum Word {
    Made,
    GoOn,
    Done,
    Failed { detail: String },
}

/// Makes it with the namespaces it owns, moves this process into those, and returns it.
pub(super) fn make(setup: &SandboxSetup, mappings: &IdMappings) -> Result<OwnedFd, String> {
    let (ours, theirs) = socket::pair().map_err(|error| format!("socketpair: {error}"))?;
    // SAFETY: the shim has a single thread.
    match unsafe { syscall::fork(0) }.map_err(|error| format!("clone3: {error}"))? {
        Forked::Child => {
            drop(ours);
            let last = go_in(setup, &theirs).map_or_else(|detail| Word::Failed { detail }, |()| Word::Done);
            let _ = socket::send(&theirs, &last, &[]);
            // The namespaces are taken from this process, so it lasts until the shim closes its end.
            let _ = socket::receive::<Word>(&theirs);
            syscall::exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let entered = come_after(setup, mappings, &ours, &pidfd);
            drop(ours);
            let _ = waitpid(nix::unistd::Pid::from_raw(pid), None);
            entered
        }
    }
}

fn go_in(setup: &SandboxSetup, parent: &OwnedFd) -> Result<(), String> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| format!("{doing}: {error}");
    syscall::die_with_parent().map_err(|error| failed("set parent death signal", &error))?;
    let flags = CloneFlags::CLONE_NEWUSER | sandbox::namespaces(setup);
    unshare(flags).map_err(|error| failed(&format!("unshare {flags:?}"), &error))?;
    // Who is not root of the host can write the id maps only of a process that may be looked at.
    syscall::show_to_ptrace().map_err(|error| failed("set dumpable flag", &error))?;
    socket::send(parent, &Word::Made, &[]).map_err(|error| failed("report", &error))?;
    match socket::receive::<Word>(parent) {
        Ok(Some((Word::GoOn, _))) => {}
        // The other end has failed, and says so itself.
        _ => syscall::exit_now(1),
    }
    executor::become_root().map_err(|error| error.to_string())?;
    sandbox::configure(setup)
}

fn come_after(
    setup: &SandboxSetup,
    mappings: &IdMappings,
    child: &OwnedFd,
    pidfd: &OwnedFd,
) -> Result<OwnedFd, String> {
    expect(child, |word| matches!(word, Word::Made))?;
    let pid = pod_processes::proc_pid(pidfd).map_err(|error| format!("find process: {error}"))?;
    write_map(pid, "uid_map", &mappings.uids)?;
    write_map(pid, "gid_map", &mappings.gids)?;
    socket::send(child, &Word::GoOn, &[]).map_err(|error| format!("tell: {error}"))?;
    expect(child, |word| matches!(word, Word::Done))?;
    let path = format!("/proc/{pid}/ns/user");
    let users = File::open(&path).map_err(|error| format!("open {path}: {error}"))?;
    let others = sandbox::namespaces(setup);
    setns(pidfd, others).map_err(|error| format!("setns {others:?}: {error}"))?;
    Ok(users.into())
}

fn expect(child: &OwnedFd, wanted: impl Fn(&Word) -> bool) -> Result<(), String> {
    match socket::receive::<Word>(child) {
        Ok(Some((word, _))) if wanted(&word) => Ok(()),
        Ok(Some((Word::Failed { detail }, _))) => Err(detail),
        Ok(_) => Err("the process that makes the user namespace ended early".to_owned()),
        Err(error) => Err(format!("wait for the user namespace: {error}")),
    }
}

fn write_map(pid: i32, name: &str, mapping: &IdMapping) -> Result<(), String> {
    let IdMapping { host_id, container_id, length } = mapping;
    let line = format!("{container_id} {host_id} {length}");
    std::fs::write(format!("/proc/{pid}/{name}"), &line).map_err(|error| {
        format!("write {line:?} (id in the pod, id on the node, how many) to {name} of the user namespace: {error}")
    })
}
