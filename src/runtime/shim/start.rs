//! Forking: how a request becomes a process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use k3s_cri::{IdMappings, PidMode};
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use rustix::pipe::{PipeFlags, pipe_with};

use super::container::{Container, Foreign, Starting, Streams};
use super::log::Log;
use super::protocol::{Progress, StartContainer};
use super::{oci_runtime, pod_processes, socket};
use crate::executor::{self, Stdio, Users};
use crate::syscall::{self, Forked};

/// Namespaces a new process can be born into.
pub(super) struct Namespaces {
    /// The shim's own pid namespace.
    pub own: OwnedFd,
    /// The pod's pid namespace, where its containers share one: a process that does nothing but be the first.
    pub pod: Option<PodInit>,
    /// The pod's user namespace.
    pub users: Option<Users>,
}

/// First process of a pid namespace that containers share.
pub(super) struct PodInit {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Namespaces {
    pub(super) fn new(mode: PidMode, users: Option<(OwnedFd, IdMappings)>) -> io::Result<Self> {
        let own = File::open("/proc/self/ns/pid")?.into();
        let users = users.map(|(namespace, mappings)| Users { namespace, mappings });
        let pod = (mode == PidMode::Pod).then(|| start_pod_init(users.as_ref())).transpose()?;
        Ok(Self { own, pod, users })
    }
}

/// Starts a copy of the shim that adopts orphans of the pod and waits for them. Its pid namespace belongs to the pod's
/// user namespace, whose root could not mount a `/proc` of it otherwise.
fn start_pod_init(users: Option<&Users>) -> io::Result<PodInit> {
    let Some(users) = users else {
        // SAFETY: the shim has a single thread.
        return match unsafe { syscall::fork(libc::CLONE_NEWPID) }? {
            Forked::Parent { pid, pidfd } => Ok(PodInit { pid, pidfd }),
            Forked::Child => be_pod_init(),
        };
    };
    let (ours, theirs) = socket::pair()?;
    // SAFETY: the shim has a single thread.
    match unsafe { syscall::fork(0) }? {
        Forked::Child => {
            let entered = users.enter();
            // SAFETY: a copy of the shim has a single thread, too.
            match entered.map(|()| unsafe { syscall::fork(libc::CLONE_NEWPID | libc::CLONE_PARENT) }) {
                Ok(Ok(Forked::Child)) => be_pod_init(),
                Ok(Ok(Forked::Parent { pid, pidfd })) => {
                    // A failure shows as nothing having been said.
                    let _ = socket::send(&theirs, &Progress::Process { pid }, &[pidfd.as_fd()]);
                }
                Ok(Err(error)) => {
                    let _ = socket::send(&theirs, &Progress::Error(error.to_string()), &[]);
                }
                Err(error) => {
                    let _ = socket::send(&theirs, &Progress::Error(error.to_string()), &[]);
                }
            }
            syscall::exit_now(0)
        }
        Forked::Parent { pid: helper, .. } => {
            drop(theirs);
            let told = socket::receive::<Progress>(&ours)?;
            waitpid(nix::unistd::Pid::from_raw(helper), None)?;
            match told {
                Some((Progress::Process { pid }, mut descriptors)) => {
                    let pidfd = descriptors.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
                    Ok(PodInit { pid, pidfd })
                }
                Some((Progress::Error(detail), _)) => Err(io::Error::other(detail)),
                _ => Err(io::Error::from_raw_os_error(libc::ECHILD)),
            }
        }
    }
}

fn be_pod_init() -> ! {
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

/// Starts a container's first process, in the pid namespace of `target` if there is one. It is running its set-up when
/// this returns.
pub(super) fn container(
    request: &StartContainer,
    target: Option<&Container>,
    binary: Option<OwnedFd>,
    namespaces: &Namespaces,
    reply_to: (u64, u64),
) -> io::Result<Container> {
    let log = Log::open(&request.log)?;
    let (ours, theirs) = socket::pair()?;
    let (streams, stdio) = streams(request)?;
    let pids = match (target, request.pid) {
        (Some(target), _) => Some(&target.pidfd),
        (None, PidMode::Pod) => namespaces.pod.as_ref().map(|init| &init.pidfd),
        (None, PidMode::Container | PidMode::Host) => None,
    };
    let own_pids = target.is_none() && request.pid == PidMode::Container;
    let forked = match &request.runtime {
        Some(_) => fork_into(None, &namespaces.own, libc::CLONE_NEWNS)?,
        None => {
            // In a user namespace the process makes a pid namespace there, once it has gone in.
            let new = if own_pids && namespaces.users.is_none() { libc::CLONE_NEWPID } else { 0 };
            fork_into(pids, &namespaces.own, libc::CLONE_NEWNS | new)?
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
                None => {
                    let users = namespaces.users.as_ref();
                    executor::run_container(request, binary, stdio, users, own_pids, &theirs)
                }
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
    namespaces: &Namespaces,
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
            executor::run_exec(process, &container.pidfd, cgroup, stdio, namespaces.users.as_ref(), &theirs)
        }
        Forked::Parent { pid, .. } => {
            rustix::io::ioctl_fionbio(&ours, true)?;
            let starting = Some(Starting { progress: ours, reply_to, error: None });
            Ok(Exec { connection: reply_to.0, number, pid, starting, terminal: None })
        }
    }
}

/// Starts what has the runtime forget a container that has ended. Returns its pid.
pub(super) fn delete(container: &Container, foreign: &Foreign, namespaces: &Namespaces) -> io::Result<i32> {
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
