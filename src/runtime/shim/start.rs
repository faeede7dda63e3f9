//! Forking: how a request becomes a process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use k3s_cri::PidMode;
use nix::sched::{CloneFlags, setns};
use rustix::pipe::{PipeFlags, pipe_with};

use super::container::{Container, Foreign, Starting, Streams};
use super::log::Log;
use super::protocol::StartContainer;
use super::{oci_runtime, pod_processes, socket};
use crate::executor::{self, Stdio};
use crate::syscall::{self, Forked};

/// Pid namespaces a new process can be born into.
pub(super) struct PidNamespaces {
    /// The shim's own.
    pub own: OwnedFd,
    /// The pod's, where its containers share one: a process that does nothing but be the first.
    pub pod: Option<PodInit>,
}

/// First process of a pid namespace that containers share.
pub(super) struct PodInit {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl PidNamespaces {
    pub(super) fn new(mode: PidMode) -> io::Result<Self> {
        let own = File::open("/proc/self/ns/pid")?.into();
        let pod = (mode == PidMode::Pod).then(start_pod_init).transpose()?;
        Ok(Self { own, pod })
    }
}

/// A copy of the shim that adopts orphans of the pod and waits for them.
fn start_pod_init() -> io::Result<PodInit> {
    // SAFETY: the shim has a single thread.
    match unsafe { syscall::fork(libc::CLONE_NEWPID) }? {
        Forked::Parent { pid, pidfd } => Ok(PodInit { pid, pidfd }),
        Forked::Child => {
            let _ = syscall::die_with_parent();
            let _ = syscall::hide_from_ptrace();
            // Children of a process that ignores SIGCHLD leave no zombies.
            // SAFETY: ignoring a signal runs none of our code.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            // SAFETY: every descriptor of this copy goes; nothing uses one any more.
            unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
            loop {
                // SAFETY: waits for a signal, touches nothing.
                unsafe { libc::pause() };
            }
        }
    }
}

/// Starts a container's first process. It is running its set-up when this returns.
pub(super) fn container(
    request: &StartContainer,
    binary: Option<OwnedFd>,
    namespaces: &PidNamespaces,
    reply_to: (u64, u64),
) -> io::Result<Container> {
    let log = Log::open(&request.log)?;
    let (ours, theirs) = socket::pair()?;
    let (streams, stdio) = streams(request)?;
    let target = match request.pid {
        PidMode::Pod => namespaces.pod.as_ref().map(|init| &init.pidfd),
        PidMode::Container | PidMode::Host => None,
    };
    let own_pids = request.pid == PidMode::Container;
    let forked = match &request.runtime {
        Some(_) => fork_into(None, &namespaces.own, libc::CLONE_NEWNS)?,
        None => {
            let pids = if own_pids { libc::CLONE_NEWPID } else { 0 };
            fork_into(target, &namespaces.own, libc::CLONE_NEWNS | pids)?
        }
    };
    match forked {
        Forked::Child => {
            drop((ours, streams, log));
            match &request.runtime {
                Some(runtime) => {
                    let pod_init = namespaces.pod.as_ref().map(|init| init.pid);
                    oci_runtime::run_container(runtime, request, pod_init, binary, stdio, &theirs)
                }
                None => executor::run_container(request, binary, stdio, &theirs),
            }
        }
        Forked::Parent { pid, pidfd } => {
            rustix::io::ioctl_fionbio(&ours, true)?;
            let proc_pid = pod_processes::proc_pid(&pidfd)?;
            Ok(Container {
                id: request.container.clone(),
                pid,
                proc_pid,
                mount_namespace: pod_processes::mount_namespace(&proc_pid.to_string()).ok(),
                pidfd,
                own_pids,
                starting: Some(Starting { progress: ours, reply_to, error: None }),
                started_at: 0,
                user: None,
                exit: None,
                forgotten: false,
                log,
                streams,
                cgroup: request.cgroup.clone(),
                foreign: request.runtime.clone().map(|runtime| Foreign {
                    runtime,
                    bundle: request.bundle.clone(),
                    pid_mode: request.pid,
                    made: false,
                    ended: None,
                    deleting: None,
                }),
            })
        }
    }
}

/// The shim's and the container's ends of its streams; the container's are `None` with a terminal.
fn streams(request: &StartContainer) -> io::Result<(Streams, Option<Stdio>)> {
    let mut streams = Streams {
        terminal: None,
        stdin: None,
        outputs: [None, None],
        stdin_once: request.stdin_once,
        input: Default::default(),
        attached: Vec::new(),
    };
    if request.terminal {
        return Ok((streams, None));
    }
    let stdin = if request.stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        streams.stdin = Some(write);
        read
    } else {
        File::open("/dev/null")?.into()
    };
    let (stdout, to_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, to_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    rustix::io::ioctl_fionbio(&stderr, true)?;
    streams.outputs = [Some(stdout), Some(stderr)];
    Ok((streams, Some(Stdio { stdin, stdout: to_stdout, stderr: to_stderr })))
}

/// A further process in a container.
pub(super) struct Exec {
    /// Connection that asked for it, and its number there.
    pub connection: u64,
    pub number: u64,
    pub pid: i32,
    pub starting: Option<Starting>,
    pub terminal: Option<OwnedFd>,
}

/// Starts one. `descriptors`: the process (memfd), then stdin, stdout and stderr unless it gets a terminal.
pub(super) fn exec(
    number: u64,
    container: &Container,
    descriptors: Vec<OwnedFd>,
    cgroup: Option<&Path>,
    namespaces: &PidNamespaces,
    reply_to: (u64, u64),
) -> io::Result<Exec> {
    let missing = || io::Error::from_raw_os_error(libc::EBADF);
    let mut descriptors = descriptors.into_iter();
    let process = descriptors.next().ok_or_else(missing)?;
    let stdio = match (descriptors.next(), descriptors.next(), descriptors.next()) {
        (None, ..) => None,
        (Some(stdin), Some(stdout), Some(stderr)) => Some(Stdio { stdin, stdout, stderr }),
        _ => return Err(missing()),
    };
    let (ours, theirs) = socket::pair()?;
    let forked = match &container.foreign {
        Some(_) => fork_into(None, &namespaces.own, libc::CLONE_NEWNS)?,
        None => fork_into(Some(&container.pidfd), &namespaces.own, 0)?,
    };
    match forked {
        Forked::Child => {
            drop(ours);
            if let Some(Foreign { runtime, bundle, pid_mode, .. }) = &container.foreign {
                let container = (bundle.as_path(), container.id.as_str(), *pid_mode);
                oci_runtime::run_exec(runtime, container, cgroup, (reply_to.0, number), process, stdio, &theirs)
            }
            executor::run_exec(process, &container.pidfd, cgroup, stdio, &theirs)
        }
        Forked::Parent { pid, .. } => {
            rustix::io::ioctl_fionbio(&ours, true)?;
            let starting = Some(Starting { progress: ours, reply_to, error: None });
            Ok(Exec { connection: reply_to.0, number, pid, starting, terminal: None })
        }
    }
}

/// Starts what has the runtime forget a container that has ended. Returns its pid.
pub(super) fn delete(container: &Container, foreign: &Foreign, namespaces: &PidNamespaces) -> io::Result<i32> {
    match fork_into(None, &namespaces.own, libc::CLONE_NEWNS)? {
        Forked::Child => oci_runtime::run_delete(&foreign.runtime, &foreign.bundle, &container.id, foreign.pid_mode),
        Forked::Parent { pid, .. } => Ok(pid),
    }
}

/// Forks a child into the pid namespace of another process. The shim itself stays where it is: only its children's
/// namespace changes, and back.
fn fork_into(process: Option<&OwnedFd>, own: &OwnedFd, flags: libc::c_int) -> io::Result<Forked> {
    if let Some(process) = process {
        setns(process.as_fd(), CloneFlags::CLONE_NEWPID)?;
    }
    // SAFETY: the shim has a single thread.
    let forked = unsafe { syscall::fork(flags) };
    if process.is_some() && !matches!(forked, Ok(Forked::Child)) {
        setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    }
    forked
}
