//! Standard streams of a container's processes.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::error::{Doing, Error};
use crate::executor::Stdio;

/// This process's own streams, to hand on.
pub(super) fn own() -> Result<Stdio, Error> {
    let copy = |stream: std::os::fd::BorrowedFd<'_>| {
        // Above the numbers it will get.
        rustix::io::fcntl_dupfd_cloexec(stream, 3).doing("duplicate standard stream")
    };
    Ok(Stdio {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

/// Sends a terminal's controlling end to the socket of `--console-socket`, as runc does.
pub(super) fn hand_over(controller: &OwnedFd, path: &Path) -> Result<(), Error> {
    let doing = || format!("send terminal to {}", path.display());
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.doing(doing())?;
    let address = SocketAddrUnix::new(path).doing(doing())?;
    rustix::net::connect(&socket, &address).doing(doing())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [controller.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let name = b"/dev/ptmx";
    rustix::net::sendmsg(&socket, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL).doing(doing())?;
    Ok(())
}
