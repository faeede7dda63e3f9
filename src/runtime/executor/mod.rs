//! Turns a freshly forked process into a container's process: the OCI runtime specification, one file per mechanism.
//!
//! Everything here runs in a child of a single-threaded process, between `clone3` and `execve`: of the shim for pods
//! ([`run_container`], [`run_exec`]), of `k3s oci` for bundles ([`launch`], [`join`]). What goes wrong is told over the
//! progress socket, whose closing by `execve` says that all went well.

mod apparmor;
mod capabilities;
mod command;
mod devices;
mod error;
mod identity;
mod inside;
mod layers;
mod masked;
mod mounts;
mod namespaces;
mod process;
mod rlimits;
mod rootfs;
mod seccomp;
mod syscalls;
mod terminal;
mod users;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Process, Spec};

pub(crate) use self::capabilities::ALL as ALL_CAPABILITIES;
pub(crate) use self::devices::default_devices;
pub(crate) use self::error::{Context, Error, Reason};
pub(crate) use self::identity::{ONLY_GIVEN_GROUPS, look_up as look_up_user};
use self::layers::Layers;
pub(crate) use self::layers::{IMAGE, LAYER, SUB_PATH};
use self::mounts::Source;
pub(crate) use self::mounts::{attach_at, attach_binary, clone_tree, hide_directory, mount_proc};
pub(crate) use self::namespaces::{bring_up_loopback, set_sysctl};
use self::process::Ties;
pub(crate) use self::rootfs::{RootFilesystem, RootKind, become_slave, mount as mount_root, overlay};
pub(crate) use self::users::{Users, become_root};
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
/// unless shared) already. With a user namespace both are made here; `own_pids`: the pid namespace, too.
pub(crate) fn run_container(
    start: &StartContainer,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    users: Option<&Users>,
    own_pids: bool,
    progress: &OwnedFd,
) -> ! {
    let error = match container(start, binary, stdio, users, own_pids, progress) {
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
    users: Option<&Users>,
    progress: &OwnedFd,
) -> ! {
    let error = match exec(process, init, cgroup, stdio, users, progress) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report(progress, &error)
}

/// Says why there will be no process, and ends this one.
pub(crate) fn report(progress: &OwnedFd, error: &Error) -> ! {
    // If even this fails, the parent sees a process that ended before it began and says so.
    let _ = socket::send(progress, &Progress::Error(error.to_string()), &[]);
    syscall::exit_now(128)
}

/// No value: what returns it only returns with an error.
pub(crate) enum Never {}

/// A container about to begin.
pub(crate) struct Launch<'a> {
    pub spec: &'a Spec,
    pub root: &'a RootFilesystem,
    /// Where the root is mounted until it is entered.
    pub place: &'a Path,
    /// The mount of the k3s binary, for images made of it.
    pub binary: Option<OwnedFd>,
    /// `None`: the process gets a terminal.
    pub stdio: Option<Stdio>,
    /// Where the user and the terminal are told.
    pub progress: &'a OwnedFd,
    /// It dies with its parent.
    pub tied_to_parent: bool,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
}

/// What happens at the specification's points between creation and start.
pub(crate) trait Stages {
    /// Everything is mounted, but the root not entered.
    fn mounted(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The command begins when this returns.
    fn ready(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A pod's containers are created and started in one go.
struct AtOnce;
impl Stages for AtOnce {}

fn container(
    start: &StartContainer,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    users: Option<&Users>,
    own_pids: bool,
    progress: &OwnedFd,
) -> Result<Never, Error> {
    tie()?;
    hide()?;
    join_cgroup(start.cgroup.as_deref())?;
    let spec: Spec = read_json(&start.bundle.join("config.json"))?;
    let root: RootFilesystem = read_json(&start.bundle.join("rootfs.json"))?;
    let place = start.bundle.join("rootfs");
    let launch = Launch {
        spec: &spec,
        root: &root,
        place: &place,
        binary,
        stdio,
        progress,
        tied_to_parent: true,
        descriptors: 0,
    };
    let Some(users) = users else {
        unshare(CloneFlags::CLONE_NEWCGROUP).doing("unshare cgroup namespace")?;
        return self::launch(launch, &mut AtOnce);
    };
    let prepared = prepare(&launch, Some(users))?;
    if let Some(stdio) = &launch.stdio {
        users.own(stdio)?;
    }
    users.enter()?;
    if own_pids {
        users::be_born(progress)?;
        tie()?;
    }
    // Belongs to the pod's root, and what was mounted by the node's can't be unmounted in it.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).doing("unshare mount and cgroup namespace")?;
    // The path of the bundle leads through directories that the pod's root may not enter.
    assemble(Launch { place: Path::new("/"), ..launch }, prepared, &mut AtOnce)
}

/// What only the node's root can mount for a container, not at its place yet.
struct Prepared {
    sources: Vec<Source>,
    root: OwnedFd,
    /// Ids are mapped: the container has a user namespace that is not this process's.
    mapped: bool,
}

fn prepare(launch: &Launch<'_>, users: Option<&Users>) -> Result<Prepared, Error> {
    process::set_oom_score_adj(process_of(launch.spec)?)?;
    let mounts = launch.spec.mounts().as_deref().unwrap_or_default();
    // Sources are opened while mounts still have the node's propagation; a slave could not be made shared again.
    let mut sources = mounts::open_sources(mounts, users)?;
    rootfs::become_slave()?;
    rootfs::enter_store(launch.root)?;
    let mut layers = Layers::new(users);
    mounts::open_images(mounts, &mut sources, &mut layers, launch.place)?;
    let root = rootfs::make(launch.root, users, &mut layers)?;
    Ok(Prepared { sources, root, mapped: users.is_some() })
}

fn process_of(spec: &Spec) -> Result<&Process, Error> {
    spec.process().as_ref().ok_or_else(|| Error::invalid("config.json: no process"))
}

/// Makes the container and becomes its command. Called in a process that is in all its namespaces already.
pub(crate) fn launch(launch: Launch<'_>, stages: &mut dyn Stages) -> Result<Never, Error> {
    let prepared = prepare(&launch, None)?;
    assemble(launch, prepared, stages)
}

fn assemble(launch: Launch<'_>, prepared: Prepared, stages: &mut dyn Stages) -> Result<Never, Error> {
    let Launch { spec, progress, .. } = launch;
    let process = process_of(spec)?;
    let linux = spec.linux().as_ref();
    let readonly = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let Prepared { sources, root, mapped } = prepared;
    rootfs::attach(&root, launch.place)?;
    if let (Some(path), Some(binary)) = (&launch.root.binary, launch.binary) {
        mounts::attach_binary(root.as_fd(), path, binary)?;
    }
    for (mount, source) in mounts.iter().zip(sources) {
        mounts::mount(root.as_fd(), mount, source, !mapped)?;
    }
    if !mounts.iter().any(mounts::is_the_nodes_dev) {
        let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        devices::make(root.as_fd(), devices)?;
        mounts::link_devices(root.as_fd())?;
    }
    let console = match launch.stdio {
        Some(_) => None,
        None => Some(terminal::open(root.as_fd(), true, process.console_size().as_ref())?),
    };
    if let Some(linux) = linux {
        masked::mask(root.as_fd(), linux.masked_paths().as_deref().unwrap_or_default())?;
        masked::make_readonly(root.as_fd(), linux.readonly_paths().as_deref().unwrap_or_default())?;
    }
    let identity = identity::look_up(root.as_fd(), process.user())?;
    socket::send(progress, &Progress::User(identity.user.clone()), &[]).doing("report user")?;
    process::create_working_directory(root.as_fd(), process)?;
    stages.mounted()?;
    rootfs::enter(root, readonly, linux.and_then(|linux| linux.rootfs_propagation().as_deref()))?;

    let stdio = terminal::connect(console, launch.stdio, progress)?;
    apparmor::confine(process)?;
    let ties =
        Ties { to_parent: launch.tied_to_parent, descriptors: launch.descriptors, ready: &mut || stages.ready() };
    process::become_process(process, &identity, linux.and_then(|linux| linux.seccomp().as_ref()), stdio, ties)
}

fn exec(
    process: OwnedFd,
    init: &OwnedFd,
    cgroup: Option<&Path>,
    stdio: Option<Stdio>,
    users: Option<&Users>,
    progress: &OwnedFd,
) -> Result<Never, Error> {
    tie()?;
    hide()?;
    join_cgroup(cgroup)?;
    if let (Some(users), Some(stdio)) = (users, &stdio) {
        users.own(stdio)?;
    }
    let request: ExecProcess = serde_json::from_reader(std::io::BufReader::new(File::from(process)))
        .map_err(|error| Error::invalid(format!("process: {error}")))?;
    let mut namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    if users.is_some() {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    join(Join { request: &request, init, namespaces, stdio, progress, tied_to_parent: true, descriptors: 0 })
}

/// A further process about to begin.
pub(crate) struct Join<'a> {
    pub request: &'a ExecProcess,
    /// The container's first process, as a pidfd.
    pub init: &'a OwnedFd,
    /// What of its namespaces this process is not in yet.
    pub namespaces: CloneFlags,
    /// `None`: the process gets a terminal.
    pub stdio: Option<Stdio>,
    /// Where the terminal is told.
    pub progress: &'a OwnedFd,
    /// It dies with its parent.
    pub tied_to_parent: bool,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
}

/// Becomes a further process of a container. Called in a process that is in the container's pid namespace.
pub(crate) fn join(join: Join<'_>) -> Result<Never, Error> {
    let Join { request, progress, .. } = join;
    process::set_oom_score_adj(&request.process)?;
    if !join.namespaces.is_empty() {
        setns(join.init, join.namespaces).doing("join the container's namespaces")?;
    }
    if join.namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        become_root()?;
    }
    let root = inside::open_root()?;
    let identity = identity::look_up(root.as_fd(), request.process.user())?;
    let console = match join.stdio {
        Some(_) => None,
        None => Some(terminal::open(root.as_fd(), false, request.process.console_size().as_ref())?),
    };
    drop(root);
    let stdio = terminal::connect(console, join.stdio, progress)?;
    apparmor::confine(&request.process)?;
    let ties = Ties { to_parent: join.tied_to_parent, descriptors: join.descriptors, ready: &mut || Ok(()) };
    process::become_process(&request.process, &identity, request.seccomp.as_ref(), stdio, ties)
}

/// What exec needs of a specification.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct ExecProcess {
    pub process: Process,
    pub seccomp: Option<oci_spec::runtime::LinuxSeccomp>,
}

/// The process dies with its parent.
fn tie() -> Result<(), Error> {
    syscall::die_with_parent().doing("set parent death signal")
}

/// The process can't be inspected from inside the container, and makes what it makes with the modes it asks for.
pub(crate) fn hide() -> Result<(), Error> {
    syscall::hide_from_ptrace().doing("clear dumpable flag")?;
    nix::sys::stat::umask(Mode::empty());
    Ok(())
}

/// The process is counted in its cgroup.
fn join_cgroup(cgroup: Option<&Path>) -> Result<(), Error> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    std::fs::write(cgroup.join("cgroup.procs"), "0").doing(format!("join cgroup {}", cgroup.display()))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = std::fs::read(path).doing(format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}
