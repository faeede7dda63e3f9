//! The last steps: streams, limits, identity, rights, and the command.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use oci_spec::runtime::{IOPriorityClass, LinuxSeccomp, Process};
use rustix::fs::{Gid, Mode, Uid};

use super::command::Command;
use super::error::{Context, Error, Reason};
use super::identity::Identity;
use super::{Never, Stdio, capabilities, inside, rlimits, seccomp};
use crate::syscall;

/// Sets the score as far as permitted: lowering it takes a right that user namespaces can't give.
pub(super) fn set_oom_score_adj(process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result.doing(format!("set oom_score_adj to {score}")),
    }
}

/// Images name working directories that no layer has; they are made then, as by Docker and containerd.
pub(super) fn create_working_directory(root: BorrowedFd<'_>, process: &Process) -> Result<(), Error> {
    match inside::make_directory(root, process.cwd(), Mode::from_raw_mode(0o755)) {
        Ok(_) => Ok(()),
        // Below a read-only mount, or a file: entering it will say so in words users know.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::ENOTDIR)) => Ok(()),
        Err(error) => Err(error).doing(format!("mkdir {}", process.cwd().display())),
    }
}

/// How a process is tied to the one that starts it.
pub(super) struct Ties<'a> {
    /// Dies with its parent.
    pub to_parent: bool,
    /// How many descriptors from 3 on the command gets.
    pub descriptors: i32,
    /// Called when all is done but what can't be taken back; the command begins when it returns.
    pub ready: &'a mut dyn FnMut() -> Result<(), Error>,
}

/// Becomes the process of the specification. The order matters: each step needs rights that a later one takes away.
pub(super) fn become_process(
    process: &Process,
    identity: &Identity,
    filter: Option<&LinuxSeccomp>,
    stdio: Stdio,
    ties: Ties<'_>,
) -> Result<Never, Error> {
    connect_streams(stdio, identity.user.uid)?;
    rlimits::set(process.rlimits().as_deref().unwrap_or_default())?;
    set_priority(process)?;
    leave_session_keyring();
    let filters = filter.map(seccomp::compile).transpose()?.unwrap_or_default();
    if let Some(capabilities) = process.capabilities() {
        capabilities::limit_bounding(capabilities)?;
    }
    let entered = enter_directory(process.cwd());
    set_ids(identity)?;
    if entered.is_err() {
        // Root may be less than the user on a network file system.
        enter_directory(process.cwd())?;
    }
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={}", identity.home));
    }
    let command = Command::find(process.args().as_deref().unwrap_or_default(), environment)?;
    if ties.to_parent {
        // Changing ids cleared it.
        syscall::die_with_parent().doing("set parent death signal")?;
    }
    (ties.ready)()?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if !no_new_privileges {
        // Without no_new_privs installing a filter takes CAP_SYS_ADMIN, so it can't be the last step.
        capabilities::raise_permitted()?;
        seccomp::install(&filters)?;
    }
    if let Some(capabilities) = process.capabilities() {
        capabilities::apply(capabilities)?;
    }
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true).doing("set no_new_privs")?;
        seccomp::install(&filters)?;
    }
    restore_signals()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
    syscall::close_from_on_exec(3).doing("mark descriptors close-on-exec")?;
    syscall::keep_on_exec(3, 2 + ties.descriptors).doing("hand descriptors on")?;
    command.execute()
}

/// Priority of the process's input and output, where the specification has one.
fn set_priority(process: &Process) -> Result<(), Error> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let Some(priority) = process.io_priority() else { return Ok(()) };
    let class: libc::c_long = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = priority.priority();
    if !(0..8).contains(&level) {
        return Err(Error::invalid(format!("ioPriority {level} is not between 0 and 7")));
    }
    // SAFETY: integers only; 0 is this process.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class << 13 | level) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()).doing("set ioPriority") }
}

fn connect_streams(stdio: Stdio, uid: u32) -> Result<(), Error> {
    for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let stat = rustix::fs::fstat(stream).doing("stat stream")?;
        let null = rustix::fs::makedev(1, 3);
        if uid != 0 && stat.st_rdev != null {
            // So that the user can open /dev/stdout. Where it isn't possible, only that isn't.
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None);
        }
    }
    // The streams' numbers are above 2: the shim keeps 0 to 2 open on /dev/null and its own log.
    rustix::stdio::dup2_stdin(stdio.stdin.as_fd()).doing("connect stdin")?;
    rustix::stdio::dup2_stdout(stdio.stdout.as_fd()).doing("connect stdout")?;
    rustix::stdio::dup2_stderr(stdio.stderr.as_fd()).doing("connect stderr")
}

/// Gets a session keyring of its own, so that the node's keys are out of reach. Kernels without keyrings need none.
fn leave_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

fn enter_directory(path: &Path) -> Result<(), Error> {
    let refused = |error: io::Error| {
        let path = path.display().to_string();
        Error::invalid(format!("chdir to cwd ({path:?}) set in config.json failed: {}", Reason(&error)))
    };
    std::env::set_current_dir(path).map_err(refused)?;
    // A leaked descriptor of the node could make this a directory outside the root (CVE-2024-21626).
    let inside = rustix::process::getcwd(Vec::new()).map_err(|error| refused(error.into()))?;
    if inside.to_bytes().first() != Some(&b'/') {
        return Err(refused(io::Error::from_raw_os_error(libc::ENOENT)));
    }
    Ok(())
}

fn set_ids(identity: &Identity) -> Result<(), Error> {
    let user = &identity.user;
    rustix::thread::set_keep_capabilities(true).doing("keep capabilities")?;
    let groups: Vec<Gid> = user.supplemental_groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A user namespace whose gid map an ordinary user wrote: what groups there are can't be changed.
        Err(rustix::io::Errno::PERM)
            if groups.iter().all(|group| group.as_raw() == user.gid) && groups_are_denied() => {}
        result => result.doing("set groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing(format!("set gid {}", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(format!("set uid {}", user.uid))?;
    // With a uid of 0 nothing was dropped; else `permitted` is still full and `effective` is set from it.
    rustix::thread::set_keep_capabilities(false).doing("let go of kept capabilities")
}

fn groups_are_denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|answer| answer.trim() == "deny")
}

/// The shim blocks SIGCHLD and Rust ignores SIGPIPE; a process inherits both.
fn restore_signals() -> Result<(), Error> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs none of our code.
    unsafe { sigaction(Signal::SIGPIPE, &default) }.doing("restore SIGPIPE")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).doing("restore signal mask")
}
