//! System calls no crate wraps safely yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What [`fork`] returned.
pub(crate) enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `clone3` used as a fork: a copy of this process in new namespaces (`CLONE_NEW*`), known by a pidfd. With
/// `CLONE_PARENT` it is a sibling of this process: the parent waits for it.
///
/// # Safety
/// The process must have a single thread: the child gets the memory of all of them but runs only this one.
pub(crate) unsafe fn fork(namespaces: libc::c_int) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    // A sibling gets the signal of this process; the kernel refuses another wish.
    let exit_signal = if namespaces & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD as u64 };
    let args = libc::clone_args {
        flags: (libc::CLONE_PIDFD | namespaces) as u32 as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: `args` outlives the call and asks for no stack of its own, which makes this a plain fork; the caller
    // vouches for the single thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: the kernel stored a new descriptor there that nobody else owns.
        pid => Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Attributes that `mount_setattr` sets and clears; `propagation` is one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or 0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub recursive: bool,
    /// A user namespace through which owners are seen (`MOUNT_ATTR_IDMAP`).
    pub users: Option<RawFd>,
}

/// Changes the mount `fd` refers to (its root, not a place below it).
pub(crate) fn mount_setattr(fd: BorrowedFd<'_>, attributes: MountAttributes) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set | attributes.users.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.users.map_or(0, |fd| fd as u64),
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static empty string and `attr` outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor from `first` on close-on-exec, whoever opened it (close_range(2)).
///
/// # Errors
/// A kernel before 5.11.
pub fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change, nothing is closed now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the descriptors from `first` to `last` open at `execve` again.
pub(crate) fn keep_on_exec(first: i32, last: i32) -> io::Result<()> {
    for fd in first..=last {
        // SAFETY: only a flag of a number changes; the caller gave these descriptors to be handed on.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sends `signal` to the process behind `process`: a pidfd or an open `/proc/<pid>` directory.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer but null is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the others of this user look at `/proc/<pid>` of this process again: an ordinary user must write its id maps.
pub(crate) fn show_to_ptrace() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

/// Asks the kernel to send this process `SIGKILL` when its parent dies.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

/// Makes `/proc/<pid>` of this process unreadable for processes with fewer rights (CVE-2019-5736).
pub(crate) fn hide_from_ptrace() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Orphans below this process become its children.
pub(crate) fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used here take one integer.
    let result = unsafe { libc::prctl(option, value, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `terminal` the controlling terminal of this session.
pub(crate) fn set_controlling_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the ioctl takes an integer.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Installs a seccomp filter without touching `no_new_privs`, as the OCI specification wants them independent.
pub(crate) fn seccomp_filter(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `len` instructions of the kernel's layout (seccompiler's type is repr(C) and the
    // same), which the kernel copies.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process without running anything more of it.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and runs no handlers, which is what a forked child must do.
    unsafe { libc::_exit(code) }
}
