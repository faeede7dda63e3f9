//! `create`: everything of a container but its command.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_spec::runtime::{ContainerState, LinuxIdMapping, Spec};

use super::error::{Doing, Error};
use super::init::{self, Go, Plan};
use super::journal::Journal;
use super::namespaces::Namespaces;
use super::record::{Container, Process, Record};
use super::{cgroup, config, end, hooks, streams};
use crate::shim::pod_processes::proc_pid;
use crate::shim::protocol::Progress;
use crate::shim::socket;
use crate::syscall::{self, Forked};

/// What `create` and `run` are told.
pub(super) struct Options {
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// Socket that gets the terminal.
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
    /// The caller itself takes the terminal.
    pub foreground: bool,
}

/// A container that waits to be started.
pub(super) struct Created {
    pub container: Container,
    pub pidfd: OwnedFd,
    /// Its terminal, for a caller in the foreground.
    pub terminal: Option<OwnedFd>,
}

/// Makes a container. On failure nothing of it is left.
pub(super) fn create(root: &Path, id: &str, options: &Options, journal: &Journal) -> Result<Created, Error> {
    let bundle = std::path::absolute(&options.bundle).doing(format!("find {}", options.bundle.display()))?;
    let spec = config::read(&bundle)?;
    let process = spec.process().as_ref().ok_or_else(|| Error::config("process is missing"))?;
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.console_socket.is_none() && !options.foreground {
        return Err(Error::Usage("process.terminal is set: give a --console-socket that takes the terminal".into()));
    }
    if !terminal && options.console_socket.is_some() {
        return Err(Error::Usage("--console-socket is given, but process.terminal is not set".into()));
    }
    let namespaces = Namespaces::of(&spec.linux().clone().unwrap_or_default())?;
    let mut record = Record::new(id, &bundle, &spec, &namespaces)?;
    let container = Container::make(root, id)?;
    let made = make(&container, &mut record, (&spec, &namespaces), options, journal);
    if made.is_err() {
        // The first error is what matters; what can't be removed now is left for `delete --force`.
        if let Err(error) = end::destroy(&container, &record, journal) {
            journal.warn(&error.to_string());
        }
    }
    made
}

fn make(
    container: &Container,
    record: &mut Record,
    (spec, namespaces): (&Spec, &Namespaces),
    options: &Options,
    journal: &Journal,
) -> Result<Created, Error> {
    // First of all the record: what is made after it can be found and cleared.
    container.save(record)?;
    container.save_config(spec)?;
    let linux = spec.linux().clone().unwrap_or_default();
    record.cgroup = cgroup::make(&container.unique_name()?, &linux, journal)?;
    container.save(record)?;
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let listener = container.listen()?;
    let stdio = if terminal { None } else { Some(streams::own()?) };
    let (ours, theirs) = socket::pair().doing("make a socket pair")?;
    // SAFETY: `k3s oci` has a single thread.
    match unsafe { syscall::fork(0) }.doing("clone3")? {
        Forked::Child => {
            drop(ours);
            let descriptors = options.descriptors;
            init::run(Plan { spec, record, namespaces, listener, stdio, progress: theirs, descriptors })
        }
        Forked::Parent { pidfd, .. } => {
            drop((theirs, listener, stdio));
            let stage = Stage { ours, pidfd };
            stage.join_cgroup(record.cgroup.as_deref())?;
            guide(&stage, container, record, spec, options)
        }
    }
}

/// The process that is on its way to become the container, or a command in it.
pub(super) struct Stage {
    pub ours: OwnedFd,
    pub pidfd: OwnedFd,
}

impl Stage {
    /// Counts the process, and what it will make, in a cgroup, and lets it go on.
    pub(super) fn join_cgroup(&self, cgroup: Option<&Path>) -> Result<(), Error> {
        if let Some(cgroup) = cgroup {
            let pid = proc_pid(&self.pidfd).doing("find process")?;
            std::fs::write(cgroup.join("cgroup.procs"), pid.to_string())
                .doing(format!("join cgroup {}", cgroup.display()))?;
        }
        self.go()
    }

    /// Waits for the process, which has told of the one it made and so ends.
    pub(super) fn ended(&self) {
        let this = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        // Only the zombie is at stake.
        let _ = rustix::process::waitid(this, rustix::process::WaitIdOptions::EXITED);
    }

    pub(super) fn go(&self) -> Result<(), Error> {
        // It being gone, its last words say why.
        match socket::send(&self.ours, &Go, &[]) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).doing("let process go on"),
            _ => Ok(()),
        }
    }
}

/// Follows the first process until it waits to be started.
fn guide(
    stage: &Stage,
    container: &Container,
    record: &mut Record,
    spec: &Spec,
    options: &Options,
) -> Result<Created, Error> {
    let (mut born, mut terminal) = (None, None);
    let missing = || Error::Process("the process is not there".to_owned());
    loop {
        let word = socket::receive::<Progress>(&stage.ours).doing("follow the first process")?;
        let Some((word, descriptors)) = word else {
            return Err(Error::Process("it ended before it was created".to_owned()));
        };
        match word {
            Progress::UserNamespace => {
                map_ids(&stage.pidfd, spec)?;
                stage.go()?;
            }
            Progress::Born => {
                let pidfd = descriptors.into_iter().next().ok_or_else(missing)?;
                stage.ended();
                let process = Process::behind(&pidfd).doing("find the first process")?;
                born = Some((process, pidfd));
                stage.go()?;
            }
            Progress::Console => {
                let controller = descriptors.into_iter().next().ok_or_else(missing)?;
                match &options.console_socket {
                    Some(path) => streams::hand_over(&controller, path)?,
                    None => terminal = Some(controller),
                }
            }
            Progress::Mounted => {
                let (process, _) = born.as_ref().ok_or_else(missing)?;
                if let Some(hooks) = spec.hooks() {
                    let state = record.state(ContainerState::Creating, process.pid);
                    hooks::run("prestart", hooks.prestart(), &state)?;
                    hooks::run("createRuntime", hooks.create_runtime(), &state)?;
                }
                stage.go()?;
            }
            Progress::Ready => {
                let (process, pidfd) = born.ok_or_else(missing)?;
                record.process = Some(process);
                container.save(record)?;
                if let Some(path) = &options.pid_file {
                    init::write_pid(path, process.pid).doing(format!("write {}", path.display()))?;
                }
                stage.go()?;
                return Ok(Created { container: container.clone(), pidfd, terminal });
            }
            Progress::Error(detail) => return Err(Error::Process(detail)),
            Progress::User(_) | Progress::Process { .. } => {}
        }
    }
}

/// Writes the id maps of a process in a new user namespace: directly where that is allowed, else by `newuidmap`.
fn map_ids(pidfd: &OwnedFd, spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().clone().unwrap_or_default();
    let pid = proc_pid(pidfd).doing("find process")?;
    for (file, program, mappings) in
        [("uid_map", "newuidmap", linux.uid_mappings()), ("gid_map", "newgidmap", linux.gid_mappings())]
    {
        let mappings = mappings.as_deref().unwrap_or_default();
        if mappings.is_empty() {
            return Err(Error::config(format!(
                "a new user namespace needs linux.{}",
                file.replace("_map", "Mappings")
            )));
        }
        write_map(pid, file, program, mappings)?;
    }
    Ok(())
}

fn write_map(pid: i32, file: &str, program: &str, mappings: &[LinuxIdMapping]) -> Result<(), Error> {
    let parts = mappings.iter().map(|map| [map.container_id(), map.host_id(), map.size()].map(|id| id.to_string()));
    let lines: Vec<_> = parts.collect();
    let text: String = lines.iter().map(|line| line.join(" ") + "\n").collect();
    let path = format!("/proc/{pid}/{file}");
    let is_root = rustix::process::geteuid().is_root();
    if file == "gid_map" && !is_root && mappings.len() == 1 && mappings[0].size() == 1 {
        // What an ordinary user may map alone.
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").doing("deny setgroups")?;
    }
    match std::fs::write(&path, text) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let output = Command::new(program).arg(pid.to_string()).args(lines.concat()).output();
            let output = output.doing(format!("run {program}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() { Ok(()) } else { Err(Error::config(format!("{program}: {}", said.trim()))) }
        }
        result => result.doing(format!("write {path}")),
    }
}
