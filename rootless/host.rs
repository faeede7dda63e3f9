//! The server's side inside the namespaces: what it can know of the host and ask of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::config::Cidr;
use crate::port::{OpenPort, PortError, PortReply, Protocol};
use crate::{CHILD_FD, name_resolution, namespaces};

static HOST: OnceLock<Host> = OnceLock::new();

/// What the launcher tells the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The launcher's pid on the host.
    pub launcher_pid: u32,
    /// The user who launched, as on the host; 0 inside.
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    /// The way out; absent without a network driver.
    pub network: Option<NetworkInfo>,
    /// What the kernel did not permit, worth a line in the log.
    pub warnings: Vec<String>,
}

/// The device to the network driver, and what lies behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    /// Name of the device.
    pub device: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The default route.
    pub gateway: Ipv4Addr,
    /// The driver's DNS forwarder.
    pub dns: Ipv4Addr,
    pub cidr: Cidr,
    /// In bytes.
    pub mtu: u32,
    /// Whether the driver carries IPv6.
    pub ipv6: bool,
}

/// The host, as the server inside reaches it. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: Info,
    /// One question at a time; the launcher answers within microseconds.
    channel: Mutex<Channel>,
    /// Its other end closes when the launcher dies, see [`tie_to`].
    _lifeline: OwnedFd,
}

/// The server could not be set up inside.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("{CHILD_FD}={value} is no descriptor; it is set by the launcher only")]
    Marker { value: String },
    #[error("the launcher is gone: {0}")]
    Launcher(io::Error),
    #[error("cannot write /etc/resolv.conf and /etc/hosts in the namespaces: {0}")]
    NameResolution(io::Error),
}

impl Host {
    /// The host, where this process is the server in the namespaces; `None` elsewhere.
    pub fn from_env() -> Option<Self> {
        HOST.get().cloned()
    }

    /// What the launcher said.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// A listener on the host's own network. Closing it frees the port.
    ///
    /// # Errors
    /// The port is in use, not permitted, or the host has no such address.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<TcpListener, PortError> {
        self.open(OpenPort { protocol: Protocol::Tcp, address }).map(TcpListener::from)
    }

    /// A bound socket on the host's own network. Closing it frees the port.
    ///
    /// # Errors
    /// As [`Self::listen_tcp`].
    pub fn bind_udp(&self, address: SocketAddr) -> Result<UdpSocket, PortError> {
        self.open(OpenPort { protocol: Protocol::Udp, address }).map(UdpSocket::from)
    }

    fn open(&self, port: OpenPort) -> Result<OwnedFd, PortError> {
        let OpenPort { protocol, address } = port;
        let failed = |source| PortError::Launcher { protocol, address, source };
        // A panic elsewhere cannot leave a question half asked: a packet is sent whole.
        let channel = self.0.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&port, None).map_err(failed)?;
        match channel.receive::<PortReply>().map_err(failed)? {
            Some((PortReply::Opened, Some(socket))) => Ok(socket),
            Some((PortReply::Opened, None)) => Err(failed(io::Error::other("no socket came with the answer"))),
            Some((PortReply::Failed { errno }, _)) => Err(PortError::host(port, errno)),
            None => Err(failed(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

/// Whether this process was started by the launcher, in the namespaces.
pub fn is_child() -> bool {
    HOST.get().is_some()
}

/// Finishes the set-up if this process was started by the launcher; returns at once otherwise.
pub(crate) fn if_asked() -> Result<(), EnterError> {
    let Some(value) = std::env::var_os(CHILD_FD) else { return Ok(()) };
    // SAFETY: this is called before the process has a second thread (see `crate::enter`).
    unsafe { std::env::remove_var(CHILD_FD) };
    let fd: Option<RawFd> = value.to_str().and_then(|v| v.parse().ok()).filter(|&fd| fd > 2);
    // SAFETY: F_GETFD only looks the number up, and fails if it is no descriptor.
    let fd = fd.filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
    let Some(fd) = fd else {
        return Err(EnterError::Marker { value: value.to_string_lossy().into_owned() });
    };
    // SAFETY: the launcher has passed this descriptor on to us, and nothing else in this process
    // knows it yet.
    let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(fd) });
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).map_err(|e| EnterError::Launcher(e.into()))?;
    namespaces::die_with_parent(&channel).map_err(EnterError::Launcher)?;
    let gone = || EnterError::Launcher(io::ErrorKind::BrokenPipe.into());
    let (info, lifeline) = channel.receive::<Info>().map_err(EnterError::Launcher)?.ok_or_else(gone)?;
    let lifeline = lifeline.ok_or_else(gone)?;
    tie_to(&lifeline).map_err(EnterError::Launcher)?;
    name_resolution::write(info.network.as_ref()).map_err(EnterError::NameResolution)?;
    HOST.get_or_init(|| Host(Arc::new(Inner { info, channel: Mutex::new(channel), _lifeline: lifeline })));
    Ok(())
}

/// Has the kernel kill this process when the pipe's writer closes: a second line besides the
/// parent-death signal, which a change of credentials clears. It takes no thread that reads:
/// a pipe whose last writer goes signals its asynchronous readers (fcntl(2), `F_SETSIG`).
fn tie_to(pipe: &OwnedFd) -> io::Result<()> {
    let (fd, pid) = (pipe.as_raw_fd(), std::process::id() as libc::pid_t);
    // SAFETY: both take a descriptor, which is open, and an integer.
    let set = unsafe { libc::fcntl(fd, libc::F_SETOWN, pid) == 0 && libc::fcntl(fd, F_SETSIG, libc::SIGKILL) == 0 };
    if !set {
        return Err(io::Error::last_os_error());
    }
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_ASYNC))?;
    // The writer may have closed before the kernel was told to watch.
    if crate::process::wait_readable(pipe, std::time::Duration::ZERO)? {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// From the kernel's `asm-generic/fcntl.h`, the same on every architecture.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;
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
