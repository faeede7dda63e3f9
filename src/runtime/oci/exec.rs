//! `exec`: a further process in a container.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Capability, ContainerState, LinuxCapabilities, Process as OciProcess};

use super::create::Stage;
use super::error::{Doing, Error};
use super::record::{Container, Process};
use super::{config, init, streams};
use crate::executor::{self, ExecProcess, Join, Never, Stdio};
use crate::shim::protocol::Progress;
use crate::shim::socket;
use crate::syscall::{self, Forked};

/// How the process differs from the container's first one.
#[derive(Default)]
pub(super) struct Options {
    /// The whole process, in place of all of the rest.
    pub process: Option<PathBuf>,
    pub args: Vec<String>,
    pub cwd: Option<PathBuf>,
    pub env: Vec<String>,
    pub terminal: bool,
    /// `UID[:GID]`
    pub user: Option<String>,
    pub additional_gids: Vec<u32>,
    pub capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub apparmor: Option<String>,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
    /// The caller itself takes the terminal.
    pub foreground: bool,
}

/// A process that runs.
pub(super) struct Executed {
    pub pidfd: OwnedFd,
    pub terminal: Option<OwnedFd>,
}

/// Starts a process.
pub(super) fn exec(container: &Container, options: &Options) -> Result<Executed, Error> {
    let record = container.record()?;
    let status = container.status(record.as_ref());
    let first = record.as_ref().and_then(|record| record.process);
    let (Some(record), Some(first)) = (record, first.filter(|_| status != ContainerState::Stopped)) else {
        return Err(match status {
            ContainerState::Creating => Error::Creating { doing: "exec in" },
            _ => Error::Stopped { doing: "exec in" },
        });
    };
    let pidfd = first.open().ok_or(Error::Stopped { doing: "exec in" })?;
    let request = request(container, options)?;
    let terminal = request.process.terminal().unwrap_or(false);
    if terminal && options.console_socket.is_none() && !options.foreground {
        return Err(Error::Usage("a terminal is asked for: give a --console-socket that takes it".into()));
    }
    let stdio = if terminal { None } else { Some(streams::own()?) };
    let (ours, theirs) = socket::pair().doing("make a socket pair")?;
    let namespaces = foreign_namespaces(first);
    // SAFETY: `k3s oci` has a single thread.
    match unsafe { syscall::fork(0) }.doing("clone3")? {
        Forked::Child => {
            drop(ours);
            let error = match child(&request, &pidfd, namespaces, stdio, &theirs, options.descriptors) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            executor::report(&theirs, &error)
        }
        Forked::Parent { pidfd: stage, .. } => {
            drop((theirs, stdio));
            let stage = Stage { ours, pidfd: stage };
            stage.join_cgroup(record.cgroup.as_deref())?;
            guide(&stage, options)
        }
    }
}

fn request(container: &Container, options: &Options) -> Result<ExecProcess, Error> {
    let mut spec = container.config()?.ok_or_else(|| Error::Unknown(container.id.clone()))?;
    let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().take());
    let process = match &options.process {
        Some(path) => {
            let bytes = std::fs::read(path).doing(format!("read {}", path.display()))?;
            serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, &error))?
        }
        None => {
            let process = spec.process_mut().take().ok_or_else(|| Error::config("process is missing"))?;
            changed(process, options)?
        }
    };
    config::check_process(&process)?;
    Ok(ExecProcess { process, seccomp })
}

/// The container's own process with what the command line says.
fn changed(mut process: OciProcess, options: &Options) -> Result<OciProcess, Error> {
    process.set_args(Some(options.args.clone())).set_terminal(Some(options.terminal));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    process.env_mut().get_or_insert_default().extend(options.env.iter().cloned());
    if let Some(user) = &options.user {
        let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| Error::Usage(format!("--user {user}: give numbers, as UID[:GID]")))
        };
        process.user_mut().set_uid(number(uid)?);
        if let Some(gid) = gid {
            process.user_mut().set_gid(number(gid)?);
        }
    }
    let gids = process.user_mut().additional_gids_mut().get_or_insert_default();
    gids.extend(&options.additional_gids);
    if options.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    for name in &options.capabilities {
        let bare = name.trim_start_matches("CAP_");
        let capability: Capability =
            bare.parse().map_err(|_| Error::Usage(format!("--cap {name}: no such capability")))?;
        let mut sets: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
        for set in [sets.bounding().clone(), sets.effective().clone(), sets.permitted().clone()].into_iter().enumerate()
        {
            let (number, set) = set;
            let mut set = set.unwrap_or_default();
            set.insert(capability);
            match number {
                0 => sets.set_bounding(Some(set)),
                1 => sets.set_effective(Some(set)),
                _ => sets.set_permitted(Some(set)),
            };
        }
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

/// The namespaces of a process that are not this process's own.
fn foreign_namespaces(process: Process) -> CloneFlags {
    const ALL: [(&str, libc::c_int); 8] = [
        ("user", libc::CLONE_NEWUSER),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("pid", libc::CLONE_NEWPID),
        ("time", 0x80),
        ("mnt", libc::CLONE_NEWNS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let differs = |name: &str| {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}")).ok();
        of("self") != of(&process.pid.to_string())
    };
    let flags = ALL.iter().filter(|(name, _)| differs(name)).fold(0, |flags, (_, flag)| flags | flag);
    CloneFlags::from_bits_retain(flags)
}

fn child(
    request: &ExecProcess,
    init: &OwnedFd,
    namespaces: CloneFlags,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
    descriptors: i32,
) -> Result<Never, executor::Error> {
    init::wait(progress)?;
    let later = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    let now = namespaces - later;
    if !now.is_empty() {
        executor::Context::doing(setns(init, now), "join the container's namespaces")?;
    }
    if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        executor::become_root()?;
    }
    init::be_born(progress, 0)?;
    executor::hide()?;
    let namespaces = namespaces & later;
    executor::join(Join { request, init, namespaces, stdio, progress, tied_to_parent: false, descriptors })
}

/// Follows the process until it has become the command.
fn guide(stage: &Stage, options: &Options) -> Result<Executed, Error> {
    let (mut born, mut terminal) = (None, None);
    let missing = || Error::Process("the process is not there".to_owned());
    while let Some((word, descriptors)) = socket::receive::<Progress>(&stage.ours).doing("follow the process")? {
        match word {
            Progress::Born => {
                let pidfd = descriptors.into_iter().next().ok_or_else(missing)?;
                stage.ended();
                if let Some(path) = &options.pid_file {
                    let process = Process::behind(&pidfd).doing("find the process")?;
                    init::write_pid(path, process.pid).doing(format!("write {}", path.display()))?;
                }
                born = Some(pidfd);
                stage.go()?;
            }
            Progress::Console => {
                let controller = descriptors.into_iter().next().ok_or_else(missing)?;
                match &options.console_socket {
                    Some(path) => streams::hand_over(&controller, path)?,
                    None => terminal = Some(controller),
                }
            }
            Progress::Error(detail) => return Err(Error::Process(detail)),
            _ => {}
        }
    }
    Ok(Executed { pidfd: born.ok_or_else(missing)?, terminal })
}
