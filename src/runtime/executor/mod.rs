//! Turns a freshly forked process into a container's process: the OCI runtime specification, one file per mechanism.
//!
//! Everything here runs in a child of the single-threaded shim, between `clone3` and `execve`. What goes wrong is told
//! to the shim over the progress socket, whose closing by `execve` says that all went well.

mod capabilities;
mod command;
mod error;
mod identity;
mod inside;
mod masked;
mod mounts;
mod process;
mod rlimits;
mod rootfs;
mod seccomp;
mod syscalls;
mod terminal;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Process, Spec};

pub(crate) use self::capabilities::ALL as ALL_CAPABILITIES;
pub(crate) use self::error::{Context, Error};
pub(crate) use self::identity::ONLY_GIVEN_GROUPS;
pub(crate) use self::mounts::clone_tree;
pub(crate) use self::rootfs::{RootFilesystem, RootKind, overlay};
use crate::shim::protocol::{Progress, StartContainer};
use crate::shim::socket;
use crate::syscall;

/// Standard streams of a process; replaced by a terminal where the process has one.
pub(crate) struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Runs the first process of a container. Called in the child, which is in its own mount namespace (and pid namespace,
/// unless shared) already.
pub(crate) fn run_container(
    start: &StartContainer,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> ! {
    let error = match container(start, binary, stdio, progress) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report(progress, &error)
}

/// Runs a further process in a running container. Called in the child, which is in the container's pid namespace.
pub(crate) fn run_exec(
    process: OwnedFd,
    init: &OwnedFd,
    cgroup: Option<&Path>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> ! {
    let error = match exec(process, init, cgroup, stdio, progress) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report(progress, &error)
}

fn report(progress: &OwnedFd, error: &Error) -> ! {
    // If even this fails, the shim sees a process that ended before it began and says so.
    let _ = socket::send(progress, &Progress::Error(error.to_string()), &[]);
    syscall::exit_now(128)
}

enum Never {}

fn container(
    start: &StartContainer,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> Result<Never, Error> {
    prepare(start.cgroup.as_deref())?;
    unshare(CloneFlags::CLONE_NEWCGROUP).doing("unshare cgroup namespace")?;
    let config = start.bundle.join("config.json");
    let spec: Spec = read_json(&config)?;
    let layout: RootFilesystem = read_json(&start.bundle.join("rootfs.json"))?;
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid(format!("{}: no process", config.display())))?;
    let linux = spec.linux().as_ref();
    process::set_oom_score_adj(process)?;

    let readonly = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let no_mounts = Vec::new();
    let mounts = spec.mounts().as_ref().unwrap_or(&no_mounts);
    // Sources are opened while mounts still have the node's propagation; a slave could not be made shared again.
    let sources = mounts::open_sources(mounts)?;
    rootfs::become_slave()?;
    let root = rootfs::mount(&layout, &start.bundle)?;
    if let (Some(path), Some(binary)) = (&layout.binary, binary) {
        mounts::attach_binary(root.as_fd(), path, binary)?;
    }
    for (mount, source) in mounts.iter().zip(sources) {
        mounts::mount(root.as_fd(), mount, source)?;
    }
    mounts::link_devices(root.as_fd())?;
    let console = match stdio {
        Some(_) => None,
        None => Some(terminal::open(root.as_fd(), true)?),
    };
    if let Some(linux) = linux {
        masked::mask(root.as_fd(), linux.masked_paths().as_deref().unwrap_or_default())?;
        masked::make_readonly(root.as_fd(), linux.readonly_paths().as_deref().unwrap_or_default())?;
    }
    let identity = identity::look_up(root.as_fd(), process.user())?;
    socket::send(progress, &Progress::User(identity.user.clone()), &[]).doing("report user")?;
    process::create_working_directory(root.as_fd(), process)?;
    rootfs::enter(root, readonly)?;

    let stdio = terminal::connect(console, stdio, progress)?;
    process::become_process(process, &identity, linux.and_then(|linux| linux.seccomp().as_ref()), stdio)
}

fn exec(
    process: OwnedFd,
    init: &OwnedFd,
    cgroup: Option<&Path>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> Result<Never, Error> {
    prepare(cgroup)?;
    let request: ExecProcess = serde_json::from_reader(std::io::BufReader::new(File::from(process)))
        .map_err(|error| Error::invalid(format!("process: {error}")))?;
    process::set_oom_score_adj(&request.process)?;
    setns(init, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).doing("join the container's namespaces")?;
    let root = inside::open_root()?;
    let identity = identity::look_up(root.as_fd(), request.process.user())?;
    let console = match stdio {
        Some(_) => None,
        None => Some(terminal::open(root.as_fd(), false)?),
    };
    drop(root);
    let stdio = terminal::connect(console, stdio, progress)?;
    process::become_process(&request.process, &identity, request.seccomp.as_ref(), stdio)
}

/// What exec needs of a specification.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct ExecProcess {
    pub process: Process,
    pub seccomp: Option<oci_spec::runtime::LinuxSeccomp>,
}

/// First steps of every process: it dies with its shim, can't be inspected from inside the container, is counted in
/// its cgroup.
fn prepare(cgroup: Option<&Path>) -> Result<(), Error> {
    syscall::die_with_parent().doing("set parent death signal")?;
    syscall::hide_from_ptrace().doing("clear dumpable flag")?;
    nix::sys::stat::umask(Mode::empty());
    if let Some(cgroup) = cgroup {
        let procs = cgroup.join("cgroup.procs");
        std::fs::write(&procs, "0").doing(format!("join cgroup {}", cgroup.display()))?;
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = std::fs::read(path).doing(format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}
