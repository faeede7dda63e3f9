//! A pipe whose reader dies with its writer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Has the kernel kill this process, and what it executes, when the pipe's writer closes: a second line besides the
/// parent-death signal, which a change of credentials clears. It takes no thread that reads: a pipe whose last writer
/// goes signals its asynchronous readers (fcntl(2), `F_SETSIG`). It lasts as long as any process holds the reader.
///
/// Makes system calls only.
pub(crate) fn tie_to(pipe: impl AsFd) -> io::Result<()> {
    let pipe = pipe.as_fd();
    let (fd, pid) = (pipe.as_raw_fd(), std::process::id() as libc::pid_t);
    // SAFETY: both take a descriptor, which is open, and an integer.
    let set = unsafe { libc::fcntl(fd, libc::F_SETOWN, pid) == 0 && libc::fcntl(fd, F_SETSIG, libc::SIGKILL) == 0 };
    if !set {
        return Err(io::Error::last_os_error());
    }
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_ASYNC))?;
    // The writer may have closed before the kernel was told to watch.
    if crate::process::wait_readable(&pipe, std::time::Duration::ZERO)? {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// From the kernel's `asm-generic/fcntl.h`, the same on every architecture.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    #[test]
    fn a_process_tied_to_a_pipe_dies_with_its_writer() {
        let (reader, writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        let mut command = Command::new("sleep");
        command.arg("100000");
        // Passed on, since what is tied is the open pipe and not its number.
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        // SAFETY: `tie_to` makes system calls only.
        unsafe { command.pre_exec(move || tie_to(&reader)) };
        let mut child = command.spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        drop(writer);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
