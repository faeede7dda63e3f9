//! Containers run by another OCI runtime (crun, runc, youki), through its command line.
//!
//! ```text
//! shim ── fork ──► driver ── runtime create ──► first process ──(runtime ends)──► child of the shim, its subreaper
//!   ▲                │ ── runtime start
//!   └── progress ────┘
//! ```
//!
//! The driver is a fork of the shim in a mount namespace of its own, where the container's root is mounted and `/proc`
//! shows the shim's pid namespace, in whose numbers the runtime thinks. It tells the shim of the process made, as the
//! executor's own child does, and ends. From then on the process is like any other of the shim's: its streams, its
//! signals (by pidfd, as the runtime's `kill` would send them), its exit code.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use k3s_cri::{ContainerUser, PidMode};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Kind, Spec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::{CgroupUse, OciRuntime, Progress, StartContainer};
use super::socket;
use crate::executor::{self, Context, Error, ExecProcess, RootFilesystem, Stdio};
use crate::syscall;

/// A bundle's directory for the runtime: its configuration and what is passed in files.
fn directory(bundle: &Path) -> PathBuf {
    bundle.join("oci")
}

/// Makes and starts a container. Called in the driver.
pub(super) fn run_container(
    runtime: &OciRuntime,
    request: &StartContainer,
    pod_init: Option<i32>,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> ! {
    let made = container(runtime, request, pod_init, binary, stdio, progress);
    if let Err(error) = &made {
        // What it has made so far goes; the error is what is told.
        let _ = tool(runtime, &request.bundle)
            .and_then(|mut tool| tool.args(["delete", "--force"]).arg(&request.container).status().doing("run delete"));
        executor::report(progress, error)
    }
    syscall::exit_now(0)
}

fn container(
    runtime: &OciRuntime,
    request: &StartContainer,
    pod_init: Option<i32>,
    binary: Option<OwnedFd>,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> Result<(), Error> {
    be_driver(runtime, request.cgroup.as_deref())?;
    let bundle = directory(&request.bundle);
    let read = |name: &str| fs::read(request.bundle.join(name)).doing(format!("read {name}"));
    let invalid = |error: serde_json::Error| Error::invalid(format!("configuration: {error}"));
    let mut spec: Spec = serde_json::from_slice(&read("config.json")?).map_err(invalid)?;
    let layout: RootFilesystem = serde_json::from_slice(&read("rootfs.json")?).map_err(invalid)?;
    match fs::create_dir(&bundle) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).doing("make bundle")?,
        _ => {}
    }
    let shared = open_shared(&spec)?;
    executor::become_slave()?;
    let root = executor::mount_root(&layout, &request.bundle.join("rootfs"))?;
    if let (Some(path), Some(binary)) = (&layout.binary, binary) {
        executor::attach_binary(root.as_fd(), path, binary)?;
    }
    attach_shared(&mut spec, shared, &bundle)?;
    show_own(runtime, request.pid)?;
    let user = complete(&mut spec, request, runtime, pod_init, root)?;
    socket::send(progress, &Progress::User(user), &[]).doing("report user")?;
    let bytes = serde_json::to_vec(&spec).map_err(invalid)?;
    fs::write(bundle.join("config.json"), bytes).doing("write configuration")?;

    let console = Console::listen(&bundle, stdio.is_none())?;
    let mut create = tool(runtime, &request.bundle)?;
    create.args(["create", "--bundle"]).arg(&bundle).args(["--pid-file", "pid"]);
    run(create, &console, stdio, &request.container, &[], &bundle)?;
    // Told before the command begins: its end must not come before.
    tell_process(progress, &bundle, console)?;
    let mut start = tool(runtime, &request.bundle)?;
    start.arg("start").arg(&request.container);
    finish(start, &bundle)
}

/// Runs a command in a container. `process` is what [`executor::run_exec`] gets. Called in the driver.
pub(super) fn run_exec(
    runtime: &OciRuntime,
    (bundle, id, pid_mode): (&Path, &str, PidMode),
    cgroup: Option<&Path>,
    number: (u64, u64),
    process: OwnedFd,
    stdio: Option<Stdio>,
    progress: &OwnedFd,
) -> ! {
    let exec = || -> Result<(), Error> {
        be_driver(runtime, cgroup)?;
        let request: ExecProcess = serde_json::from_reader(io::BufReader::new(File::from(process)))
            .map_err(|error| Error::invalid(format!("process: {error}")))?;
        executor::become_slave()?;
        show_own(runtime, pid_mode)?;
        // Commands may start at the same time, each with files of its own.
        let files = directory(bundle).join(format!("exec-{}-{}", number.0, number.1));
        fs::create_dir(&files).doing("make files of command")?;
        let bytes = serde_json::to_vec(&request.process).map_err(|error| Error::invalid(error.to_string()))?;
        fs::write(files.join("process.json"), bytes).doing("write process")?;
        let console = Console::listen(&files, stdio.is_none())?;
        let mut tool = tool(runtime, bundle)?;
        tool.args(["exec", "--detach", "--process", "process.json", "--pid-file", "pid"]);
        let started = run(tool, &console, stdio, id, &[], &files);
        let told = started.and_then(|()| tell_process(progress, &files, console));
        // Files of a command that has begun, or never will.
        let _ = fs::remove_dir_all(&files);
        told
    };
    match exec() {
        Ok(()) => syscall::exit_now(0),
        Err(error) => executor::report(progress, &error),
    }
}

/// Has the runtime forget a container that has ended. Called in the driver.
pub(super) fn run_delete(runtime: &OciRuntime, bundle: &Path, id: &str, pid_mode: PidMode) -> ! {
    let delete = || -> Result<(), Error> {
        be_driver(runtime, None)?;
        executor::become_slave()?;
        show_own(runtime, pid_mode)?;
        let mut delete = tool(runtime, bundle)?;
        delete.args(["delete", "--force"]).arg(id);
        finish(delete, &directory(bundle))
    };
    // Where it fails, what is left goes with the sandbox's state directory.
    syscall::exit_now(i32::from(delete().is_err()))
}

/// The driver ends with the shim, and its children get signals as usual.
fn be_driver(runtime: &OciRuntime, cgroup: Option<&Path>) -> Result<(), Error> {
    if let (CgroupUse::Inherited { .. }, Some(cgroup)) = (runtime.cgroup, cgroup) {
        let procs = cgroup.join("cgroup.procs");
        fs::write(procs, "0").doing(format!("join cgroup {}", cgroup.display()))?;
    }
    syscall::die_with_parent().doing("set parent death signal")?;
    nix::unistd::setsid().doing("setsid")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).doing("restore signal mask")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// What the runtime is to see: its numbers of processes are those of the shim's pid namespace, while the node's `/proc`
/// has others.
fn show_own(runtime: &OciRuntime, pid_mode: PidMode) -> Result<(), Error> {
    if runtime.cgroup == (CgroupUse::Inherited { hidden: true }) {
        executor::hide_directory(Path::new("/sys/fs/cgroup"))?;
    }
    if pid_mode == PidMode::Host { Ok(()) } else { executor::mount_proc() }
}

/// The runtime's command with the options before its subcommand.
fn tool(runtime: &OciRuntime, bundle: &Path) -> Result<Command, Error> {
    let directory = directory(bundle);
    fs::DirBuilder::new().recursive(true).create(&runtime.root).doing("make the runtime's directory")?;
    let log = directory.join("log.json");
    let mut command = Command::new(&runtime.binary);
    command.args(&runtime.args).arg("--root").arg(&runtime.root);
    command.arg("--log").arg(log).args(["--log-format", "json"]);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // crun keeps something there even with --root.
    command.env("XDG_RUNTIME_DIR", &runtime.root);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null()).current_dir(directory);
    Ok(command)
}

fn run(
    mut command: Command,
    console: &Option<Console>,
    stdio: Option<Stdio>,
    id: &str,
    args: &[String],
    directory: &Path,
) -> Result<(), Error> {
    command.current_dir(directory);
    if console.is_some() {
        // Relative: a socket's address has room for 108 bytes.
        command.args(["--console-socket", CONSOLE]);
    }
    if let Some(Stdio { stdin, stdout, stderr }) = stdio {
        command.stdin(stdin).stdout(stdout).stderr(stderr);
    }
    command.arg(id).args(args);
    finish(command, directory)
}

/// Runs a command of the runtime; if it fails, its log says why.
fn finish(mut command: Command, directory: &Path) -> Result<(), Error> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let status = command.status().doing(format!("run {name}"))?;
    drop(command);
    if status.success() {
        return Ok(());
    }
    Err(Error::invalid(reason(&name, directory, status)))
}

fn reason(name: &str, directory: &Path, status: ExitStatus) -> String {
    let log = directory.join("log.json");
    // The log of the bundle is the log of its commands.
    let log = if log.exists() { log } else { directory.parent().unwrap_or(directory).join("log.json") };
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut errors = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let last = errors.rfind(|line| line["level"] == "error" || line["level"] == "fatal");
    match last.as_ref().and_then(|line| line["msg"].as_str()) {
        Some(message) => format!("{name}: {message}"),
        None => format!("{name}: {status}"),
    }
}

fn tell_process(progress: &OwnedFd, directory: &Path, console: Option<Console>) -> Result<(), Error> {
    let pid = fs::read_to_string(directory.join("pid")).doing("read pid file")?;
    let pid = pid.trim().parse().map_err(|_| Error::invalid(format!("pid file has {pid:?}")))?;
    if let Some(console) = console {
        let controller = console.receive()?;
        socket::send(progress, &Progress::Console, &[controller.as_fd()]).doing("hand terminal to shim")?;
    }
    socket::send(progress, &Progress::Process { pid }, &[]).doing("report process")
}

const CONSOLE: &str = "console.sock";

/// Where the runtime sends a terminal.
struct Console(OwnedFd);

impl Console {
    fn listen(directory: &Path, wanted: bool) -> Result<Option<Self>, Error> {
        if !wanted {
            return Ok(None);
        }
        let doing = "listen for the terminal";
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.doing(doing)?;
        let parent = File::open(directory).doing(doing)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{CONSOLE}", parent.as_raw_fd())).doing(doing)?;
        rustix::net::bind(&socket, &address).doing(doing)?;
        rustix::net::listen(&socket, 1).doing(doing)?;
        Ok(Some(Self(socket)))
    }

    /// The runtime has connected by now, and sent it.
    fn receive(self) -> Result<OwnedFd, Error> {
        let doing = "receive the terminal";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::io::ioctl_fionbio(&self.0, true).doing(doing)?;
        let connection = rustix::net::accept_with(&self.0, flags).doing(doing)?;
        let descriptors = socket::receive_descriptors(&connection).doing(doing)?;
        descriptors.into_iter().next().ok_or_else(|| Error::invalid("the runtime sent no terminal"))
    }
}

/// Fills in what only the shim knows: the numbers of the user, the sandbox's namespaces, where the root is.
fn complete(
    spec: &mut Spec,
    request: &StartContainer,
    runtime: &OciRuntime,
    pod_init: Option<i32>,
    root: OwnedFd,
) -> Result<ContainerUser, Error> {
    let process = spec.process_mut().as_mut().ok_or_else(|| Error::invalid("configuration has no process"))?;
    let identity = executor::look_up_user(root.as_fd(), process.user())?;
    let user = process.user_mut();
    user.set_username(None).set_uid(identity.user.uid).set_gid(identity.user.gid);
    user.set_additional_gids(Some(identity.user.supplemental_groups.clone()));
    if let Some(environment) = process.env_mut()
        && !environment.iter().any(|entry| entry.starts_with("HOME="))
    {
        environment.push(format!("HOME={}", identity.home));
    }
    if let Some(root) = spec.root_mut() {
        root.set_path(request.bundle.join("rootfs"));
    }
    // Parent of the driver, as the runtime sees it.
    let shim = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
    let linux = spec.linux_mut().get_or_insert_default();
    linux.set_namespaces(Some(namespaces(shim, request.pid, pod_init)?));
    if runtime.cgroup == CgroupUse::ByPath {
        linux.set_cgroups_path(request.cgroup.as_deref().and_then(below_hierarchy));
    }
    let without_cgroups = runtime.cgroup == (CgroupUse::Inherited { hidden: true });
    // In a user namespace a runtime shows the node's default devices itself, and runc stumbles over those that are there.
    // Outside it would make nodes, which do nothing on a /dev whose nodes are to do nothing.
    let defaults = if in_user_namespace() { executor::default_devices() } else { Vec::new() };
    if let Some(mounts) = spec.mounts_mut() {
        mounts.retain(|mount| {
            let is_default = defaults.iter().any(|device| device.path() == mount.destination());
            !(is_default || without_cgroups && mount.typ().as_deref() == Some("cgroup"))
        });
    }
    Ok(identity.user)
}

fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn namespaces(shim: i32, pid_mode: PidMode, pod_init: Option<i32>) -> Result<Vec<LinuxNamespace>, Error> {
    let build = |builder: LinuxNamespaceBuilder| builder.build().map_err(|error| Error::invalid(error.to_string()));
    let new = |kind: Kind| build(LinuxNamespaceBuilder::default().typ(kind));
    let of = |kind: Kind, pid: i32, name: &str| {
        build(LinuxNamespaceBuilder::default().typ(kind).path(format!("/proc/{pid}/ns/{name}")))
    };
    let mut all = vec![
        new(Kind::Mount)?,
        new(Kind::Cgroup)?,
        of(Kind::Network, shim, "net")?,
        of(Kind::Ipc, shim, "ipc")?,
        of(Kind::Uts, shim, "uts")?,
    ];
    match (pid_mode, pod_init) {
        (PidMode::Container, _) => all.push(new(Kind::Pid)?),
        (PidMode::Pod, Some(init)) => all.push(of(Kind::Pid, init, "pid")?),
        (PidMode::Pod, None) | (PidMode::Host, _) => {}
    }
    Ok(all)
}

/// A cgroup's path as the specification has it: below the hierarchy's mount.
fn below_hierarchy(cgroup: &Path) -> Option<PathBuf> {
    Some(Path::new("/").join(cgroup.strip_prefix("/sys/fs/cgroup").ok()?))
}

/// Sources of mounts that are to propagate back to the node, opened while the node's mounts still have that propagation.
fn open_shared(spec: &Spec) -> Result<Vec<(usize, OwnedFd)>, Error> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let shared = mounts.filter(|(_, mount)| mount.options().iter().flatten().any(|option| option == "rshared"));
    shared
        .map(|(number, mount)| {
            let source = mount.source().as_deref().unwrap_or(Path::new("/"));
            let tree = executor::clone_tree(source, true).doing(format!("open mount {}", source.display()))?;
            Ok((number, tree))
        })
        .collect()
}

/// Puts them where the runtime finds them.
fn attach_shared(spec: &mut Spec, shared: Vec<(usize, OwnedFd)>, bundle: &Path) -> Result<(), Error> {
    for (number, tree) in shared {
        let place = bundle.join(format!("source-{number}"));
        executor::attach_at(&tree, &place).doing(format!("mount {}", place.display()))?;
        if let Some(mount) = spec.mounts_mut().as_mut().and_then(|mounts| mounts.get_mut(number)) {
            mount.set_source(Some(place));
        }
    }
    Ok(())
}
