//! Making the namespaces, and starting a process in them.
//!
//! Both fork, so both are only for a process with a single thread: another thread could hold a
//! lock (the allocator's, say) that would then never be released in the new process.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::channel::Channel;
use crate::{CHILD_FD, init};

/// All that separate the stack from the host. (Time namespaces add nothing here.)
const ALL: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// A step of starting a process failed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("this process has {threads} threads; namespaces can only be made before it starts any")]
    Threads { threads: String },
    #[error("cannot read {path}: {source}")]
    Read { path: &'static str, source: io::Error },
    #[error("an argument or environment variable holds a NUL byte")]
    Nul,
    #[error("cannot make namespaces: {source}{}", remedy(.source))]
    Create { source: io::Error },
    #[error("cannot {step} to start the server: {source}")]
    Start { step: Step, source: io::Error },
}

/// What to do about it, for what no check can see before.
fn remedy(refused: &io::Error) -> &'static str {
    match refused.raw_os_error() {
        Some(libc::ENOSPC) | Some(libc::EUSERS) => {
            "; there are as many as the kernel allows, or as deep: allow more with: sudo sysctl -w user.max_user_namespaces=28633"
        }
        Some(libc::EPERM) | Some(libc::EACCES) => {
            "; a security module or the seccomp profile of a container forbids it: see sudo dmesg | tail (Docker: --security-opt seccomp=unconfined)"
        }
        _ => "",
    }
}

/// Where starting a process in the namespaces got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Fork = 1,
    Enter = 2,
    Exec = 3,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fork => "fork",
            Self::Enter => "enter the namespaces",
            Self::Exec => "execute the program anew",
        })
    }
}

/// Refuses a process with more than one thread.
///
/// # Errors
/// [`NamespaceError::Threads`].
pub(crate) fn single_threaded() -> Result<(), NamespaceError> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).map_err(|source| NamespaceError::Read { path, source })?;
    match status.lines().find_map(|l| l.strip_prefix("Threads:")).map(str::trim) {
        Some("1") => Ok(()),
        threads => Err(NamespaceError::Threads { threads: threads.unwrap_or("an unknown number of").to_owned() }),
    }
}

/// This program, to be executed anew.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    /// Device and inode, to know it by in another mount namespace.
    file: (u64, u64),
    argv: Vec<CString>,
    envp: Vec<CString>,
    /// Where to be; `/` if that is not there inside.
    cwd: Option<PathBuf>,
}

impl Program {
    pub fn itself(
        argv: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, NamespaceError> {
        let path = "/proc/self/exe";
        let read = |source| NamespaceError::Read { path, source };
        let file = std::fs::metadata(path).map_err(read)?;
        let target = std::fs::read_link(path).map_err(read)?;
        let c = |s: OsString| CString::new(s.into_vec()).map_err(|_| NamespaceError::Nul);
        let assign = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            c(name)
        };
        Ok(Self {
            path: c(target.into_os_string())?,
            file: (file.dev(), file.ino()),
            argv: argv.into_iter().map(c).collect::<Result<_, _>>()?,
            envp: env.into_iter().map(assign).collect::<Result<_, _>>()?,
            cwd: std::env::current_dir().ok(),
        })
    }

    /// Replaces this process, passing `fd` on as the environment variable `name`. Returns only if
    /// that fails.
    fn exec(mut self, name: &str, fd: BorrowedFd<'_>) -> io::Error {
        let mut attempt = || -> io::Result<()> {
            let cwd = self.cwd.take().unwrap_or_else(|| "/".into());
            rustix::process::chdir(&cwd).or_else(|_| rustix::process::chdir("/"))?;
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            SigSet::empty().thread_set_mask()?;
            let marker = CString::new(format!("{name}={}", fd.as_raw_fd()))?;
            self.envp.retain(|v| !v.as_bytes().starts_with(format!("{name}=").as_bytes()));
            self.envp.push(marker);
            // By its path it has its right name in process lists. The link in /proc always works,
            // also when the file was replaced by an update or lies under a new mount.
            let here = rustix::fs::stat(&self.path).is_ok_and(|s| (s.st_dev, s.st_ino) == self.file);
            let path = if here { self.path.as_c_str() } else { c"/proc/self/exe" };
            nix::unistd::execve(path, &self.argv, &self.envp)?;
            Ok(())
        };
        match attempt() {
            Ok(()) => io::Error::other("execve returned"),
            Err(e) => e,
        }
    }
}

/// A process that was just made.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Makes all namespaces, with a process in them that waits for a message on its channel (by then
/// its ids are to be mapped) and then executes this program as the namespaces' init. `ours` is the
/// launcher's end of that channel.
pub(crate) fn create(program: Program, channel: Channel, ours: &Channel) -> Result<Spawned, NamespaceError> {
    single_threaded()?;
    let mut pidfd: RawFd = -1;
    // SAFETY: zero is "not used" for every field of clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (ALL.bits() | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: the arguments live across the call and their size is right. Without CLONE_VM the new
    // process has its own copy of this one's memory, as after fork(2), and no other thread existed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(NamespaceError::Create { source: io::Error::last_os_error() }),
        0 => {
            // SAFETY: this is the copy, and it never returns.
            unsafe { ours.close_copy() };
            become_init(program, &channel);
            // SAFETY: nothing of the launcher's may run in its copy, destructors included.
            unsafe { libc::_exit(127) }
        }
        // SAFETY: the kernel has just opened it for us.
        pid => Ok(Spawned { pid: Pid::from_raw(pid as i32), pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

fn become_init(program: Program, channel: &Channel) {
    // Until the ids are mapped this process is "nobody", and an exec would lose its capabilities.
    let go = channel.receive::<init::Mapped>();
    // Its own session: it outlives the terminal.
    if !matches!(go, Ok(Some(_))) || rustix::process::setsid().is_err() {
        return;
    }
    let error = program.exec(init::FD, channel.as_fd());
    let reply = init::Ready { error: Some(format!("cannot execute the program anew: {error}")), warnings: vec![] };
    // If the launcher is gone as well, there is nobody left to tell.
    let _ = channel.send(&reply, None);
}

/// Starts this program in the namespaces of a process, as a child of the calling one. `ours` is the
/// launcher's end of the channel.
pub(crate) fn start_in(
    init: BorrowedFd<'_>,
    program: Program,
    channel: Channel,
    ours: &Channel,
) -> Result<Pid, NamespaceError> {
    single_threaded()?;
    let (reports, report) = io::pipe().map_err(|source| NamespaceError::Start { step: Step::Fork, source })?;
    // A pid namespace is entered by the next child only, so it takes a process between. With
    // CLONE_PARENT that child is ours nonetheless: its status comes to us, and it dies with us.
    // SAFETY: there is no other thread.
    let between = unsafe { fork(0) }.map_err(|source| NamespaceError::Start { step: Step::Fork, source })?;
    let Some(between) = between else {
        // SAFETY: this is the copy, and it never returns.
        unsafe { ours.close_copy() };
        drop(reports);
        let failed = |step, e: io::Error| tell(&report, step as u8, e.raw_os_error().unwrap_or(libc::EIO));
        match setns(init, ALL) {
            Err(e) => failed(Step::Enter, e.into()),
            // SAFETY: there is no other thread.
            Ok(()) => match unsafe { fork(libc::CLONE_PARENT) } {
                Err(e) => failed(Step::Fork, e),
                Ok(Some(child)) => tell(&report, 0, child.as_raw()),
                Ok(None) => {
                    let error = match die_with_parent(&channel) {
                        Ok(()) => program.exec(CHILD_FD, channel.as_fd()),
                        Err(e) => e,
                    };
                    failed(Step::Exec, error);
                }
            },
        }
        // SAFETY: as in `create`.
        unsafe { libc::_exit(127) }
    };
    drop((report, channel));
    let outcome = outcome(reports);
    waitpid(between, None).map_err(|e| NamespaceError::Start { step: Step::Fork, source: e.into() })?;
    let (child, error) = outcome.map_err(|source| NamespaceError::Start { step: Step::Fork, source })?;
    match (child, error) {
        (Some(child), None) => Ok(child),
        (child, error) => {
            if let Some(child) = child {
                // It has ended with the error; only its entry in the process table is left.
                waitpid(child, None).map_err(|e| NamespaceError::Start { step: Step::Exec, source: e.into() })?;
            }
            let (step, errno) = error.unwrap_or((Step::Fork, libc::EIO));
            Err(NamespaceError::Start { step, source: io::Error::from_raw_os_error(errno) })
        }
    }
}

/// Has the kernel end this process when its parent is gone, however it went.
pub(crate) fn die_with_parent(channel: &Channel) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before. It cannot be seen by its pid from inside, but its end of
    // the channel is closed then.
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(channel, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    let gone = fds[0].revents().contains(PollFlags::HUP);
    if gone { Err(io::Error::other("the launcher is gone")) } else { Ok(()) }
}

/// A report is 5 bytes, which a pipe takes whole: what it is, and a number.
fn tell(mut pipe: &io::PipeWriter, tag: u8, number: i32) {
    let mut report = [tag; 5];
    report[1..].copy_from_slice(&number.to_le_bytes());
    // If the launcher is gone there is nobody to tell.
    let _ = io::Write::write_all(&mut pipe, &report);
}

type Outcome = (Option<Pid>, Option<(Step, i32)>);

/// Reads until a successful exec, or the end of both processes, has closed the pipe.
fn outcome(mut reports: io::PipeReader) -> io::Result<Outcome> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut reports, &mut bytes)?;
    let mut outcome = (None, None);
    for report in bytes.chunks_exact(5) {
        let number = i32::from_le_bytes([report[1], report[2], report[3], report[4]]);
        match report[0] {
            0 => outcome.0 = Some(Pid::from_raw(number)),
            1 => outcome.1 = Some((Step::Fork, number)),
            2 => outcome.1 = Some((Step::Enter, number)),
            _ => outcome.1 = Some((Step::Exec, number)),
        }
    }
    Ok(outcome)
}

/// `fork(2)` with further flags; `None` in the new process.
///
/// # Safety
/// The process must have a single thread.
unsafe fn fork(flags: libc::c_int) -> io::Result<Option<Pid>> {
    // SAFETY: zero is "not used" for every field of clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64;
    // With CLONE_PARENT the kernel takes the caller's own exit signal and refuses to be given one.
    args.exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: as in `create`; the caller answers for the single thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(pid as i32))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_no_check_foresees_says_what_to_do() {
        let error = |errno| NamespaceError::Create { source: io::Error::from_raw_os_error(errno) }.to_string();
        assert!(error(libc::ENOSPC).contains("sysctl -w user.max_user_namespaces"), "{}", error(libc::ENOSPC));
        assert!(error(libc::EPERM).contains("seccomp"), "{}", error(libc::EPERM));
    }
}
