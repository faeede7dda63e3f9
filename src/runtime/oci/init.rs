//! The child's side of `create`: from a fork of `k3s oci` to the container's command.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::{ContainerState, LinuxNamespaceType as Kind, Spec};
use serde::{Deserialize, Serialize};

use super::namespaces::Namespaces;
use super::record::Record;
use super::{error, hooks};
use crate::executor::{self, Context, Error, Launch, Never, RootFilesystem, RootKind, Stages, Stdio};
use crate::shim::protocol::Progress;
use crate::shim::socket;
use crate::syscall::{self, Forked};

/// "Go on": what a waiting process is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go;

/// What the first process is made from.
pub(super) struct Plan<'a> {
    pub spec: &'a Spec,
    pub record: &'a Record,
    pub namespaces: &'a Namespaces,
    /// Where it waits for its start.
    pub listener: OwnedFd,
    /// `None`: it gets a terminal.
    pub stdio: Option<Stdio>,
    pub progress: OwnedFd,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
}

/// Goes through the namespaces and becomes the container. Never returns: an error goes over the progress socket.
pub(super) fn run(plan: Plan<'_>) -> ! {
    let Plan { spec, namespaces, progress, .. } = &plan;
    let born = enter(progress, namespaces, |namespaces| namespaces.unshare(spec));
    match born {
        Ok(()) => first_process(plan),
        Err(error) => executor::report(progress, &error),
    }
}

/// Joins and makes the namespaces; goes on in a child that is in all of them and whose parent is this process's own.
fn enter(
    progress: &OwnedFd,
    namespaces: &Namespaces,
    unshare: impl FnOnce(&Namespaces) -> Result<(), Error>,
) -> Result<(), Error> {
    // By now it is in its cgroup, which a new cgroup namespace will show as the root.
    wait(progress)?;
    namespaces.join()?;
    if namespaces.is_new(Kind::User) {
        namespaces.unshare_user()?;
        tell(progress, &Progress::UserNamespace)?;
        wait(progress)?;
        executor::become_root()?;
    }
    unshare(namespaces)?;
    be_born(progress, namespaces.of_birth())
}

/// Goes on in a sibling; this process tells of it and ends.
pub(super) fn be_born(progress: &OwnedFd, namespaces: libc::c_int) -> Result<(), Error> {
    // SAFETY: `k3s oci` has a single thread.
    match unsafe { syscall::fork(namespaces | libc::CLONE_PARENT) }.doing("clone3")? {
        // Whoever follows must know of it before it says anything.
        Forked::Child => wait(progress),
        Forked::Parent { pidfd, .. } => {
            use std::os::fd::AsFd;
            socket::send(progress, &Progress::Born, &[pidfd.as_fd()]).doing("report the first process")?;
            syscall::exit_now(0)
        }
    }
}

pub(super) fn tell(progress: &OwnedFd, word: &Progress) -> Result<(), Error> {
    socket::send(progress, word, &[]).doing("report progress")
}

/// Waits until told to go on. Whoever should say so being gone, so is the reason to exist.
pub(super) fn wait(progress: &OwnedFd) -> Result<(), Error> {
    match socket::receive::<Go>(progress) {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => syscall::exit_now(128),
    }
}

fn first_process(plan: Plan<'_>) -> ! {
    let Plan { spec, record, namespaces: _, listener, stdio, progress, descriptors } = plan;
    let mut stages = Waiting { spec, record, progress: &progress, listener, starter: None };
    let root = RootFilesystem {
        store: "/".into(),
        kind: RootKind::Tree { path: record.rootfs.clone() },
        devices: true,
        binary: None,
    };
    let launch = Launch {
        spec,
        root: &root,
        place: &record.rootfs,
        binary: None,
        stdio,
        progress: &progress,
        tied_to_parent: false,
        descriptors,
    };
    let error = match begin(launch, &mut stages) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    executor::report(stages.starter.as_ref().unwrap_or(&progress), &error)
}

fn begin(launch: Launch<'_>, stages: &mut Waiting<'_>) -> Result<Never, Error> {
    executor::hide()?;
    executor::launch(launch, stages)
}

/// The points at which a container of `k3s oci` stops and waits.
struct Waiting<'a> {
    spec: &'a Spec,
    record: &'a Record,
    progress: &'a OwnedFd,
    listener: OwnedFd,
    /// The connection of the `start` that started it.
    starter: Option<OwnedFd>,
}

impl Waiting<'_> {
    /// The specification wants the pid as the hook sees it.
    fn state(&self, status: ContainerState) -> serde_json::Value {
        self.record.state(status, rustix::process::getpid().as_raw_nonzero().get())
    }
}

fn hook_failed(error: error::Error) -> Error {
    Error::invalid(error.to_string())
}

impl Stages for Waiting<'_> {
    fn mounted(&mut self) -> Result<(), Error> {
        tell(self.progress, &Progress::Mounted)?;
        wait(self.progress)?;
        let Some(hooks) = self.spec.hooks() else { return Ok(()) };
        let state = self.state(ContainerState::Creating);
        hooks::run("createContainer", hooks.create_container(), &state).map_err(hook_failed)
    }

    fn ready(&mut self) -> Result<(), Error> {
        tell(self.progress, &Progress::Ready)?;
        wait(self.progress)?;
        let starter = loop {
            let flags = rustix::net::SocketFlags::CLOEXEC;
            let connection = rustix::net::accept_with(&self.listener, flags).doing("accept the start")?;
            // Whoever only looks whether somebody listens says nothing.
            if let Ok(Some((Go, _))) = socket::receive(&connection) {
                break connection;
            }
        };
        self.starter = Some(starter);
        let Some(hooks) = self.spec.hooks() else { return Ok(()) };
        let state = self.state(ContainerState::Created);
        hooks::run("startContainer", hooks.start_container(), &state).map_err(hook_failed)
    }
}

/// What `--pid-file` gets: the whole number or nothing.
pub(super) fn write_pid(path: &Path, pid: i32) -> std::io::Result<()> {
    crate::record::replace(path, pid.to_string().as_bytes())
}
