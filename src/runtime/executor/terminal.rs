//! A terminal of the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Box;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::error::{Context, Error};
use super::{Stdio, inside, mounts};
use crate::shim::protocol::Progress;
use crate::shim::socket;
use crate::syscall;

/// Both ends of a terminal.
pub(super) struct Console {
    controller: OwnedFd,
    terminal: OwnedFd,
}

/// Opens a terminal below `root`. As the container's console it is also its /dev/console.
pub(super) fn open(root: BorrowedFd<'_>, as_console: bool, size: Option<&Box>) -> Result<Console, Error> {
    let controller =
        inside::open(root, Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY).doing("open /dev/pts/ptmx")?;
    unlockpt(&controller).doing("unlock terminal")?;
    // By descriptor, not by name: the container could have put something else at that name.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&controller, flags).doing("open terminal")?;
    if let Some(size) = size {
        let of = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: of(size.height()), ws_col: of(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).doing("set size of terminal")?;
    }
    if as_console {
        let name = ptsname(&controller, Vec::new()).doing("name of terminal")?;
        let path = Path::new(std::ffi::OsStr::new(name.to_str().unwrap_or_default()));
        mounts::bind_inside(root, path, Path::new("/dev/console")).doing("mount terminal on /dev/console")?;
    }
    Ok(Console { controller, terminal })
}

/// Makes the process leader of a session, with the terminal as its own where there is one, and hands the terminal's
/// other end to the shim. Returns the streams to use.
pub(super) fn connect(console: Option<Console>, stdio: Option<Stdio>, progress: &OwnedFd) -> Result<Stdio, Error> {
    nix::unistd::setsid().doing("setsid")?;
    if let Some(stdio) = stdio {
        return Ok(stdio);
    }
    let Some(Console { controller, terminal }) = console else {
        return Err(Error::invalid("process has neither a terminal nor streams"));
    };
    syscall::set_controlling_terminal(&terminal).doing("set controlling terminal")?;
    socket::send(progress, &Progress::Console, &[controller.as_fd()]).doing("hand terminal to shim")?;
    Ok(Stdio {
        stdin: terminal.try_clone().doing("duplicate terminal")?,
        stdout: terminal.try_clone().doing("duplicate terminal")?,
        stderr: terminal,
    })
}
