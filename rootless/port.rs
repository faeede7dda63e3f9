//! Ports of the host that lead into the namespaces: what is asked of the launcher, its answers, and the drivers that
//! fulfil it.

mod builtin;
mod slirp4netns;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::config::{self, Config};
use crate::state::StateDir;

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPort {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// What the namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortRequest {
    /// `inside` is where a driver that hands in no socket is to lead the port.
    Open { port: HostPort, inside: Option<SocketAddr> },
    /// Closing what is not open is no error.
    Close { port: HostPort },
}

/// The answer; with the built-in driver a socket comes along with `Done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortReply {
    Done,
    Failed { errno: i32 },
    Refused { reason: String },
}

/// A port of the host that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("{protocol} port {address} of the host is in use by another program")]
    InUse { protocol: Protocol, address: SocketAddr },
    #[error(
        "{protocol} port {address} of the host is not for ordinary users; allow it with: sudo sysctl -w net.ipv4.ip_unprivileged_port_start={}",
        address.port()
    )]
    Permission { protocol: Protocol, address: SocketAddr },
    #[error("the host has no address {}, asked for by {protocol} port {}", address.ip(), address.port())]
    NoAddress { protocol: Protocol, address: SocketAddr },
    #[error("cannot open {protocol} port {address} of the host: {source}")]
    Host { protocol: Protocol, address: SocketAddr, source: io::Error },
    #[error("the port driver will not open {protocol} port {address} of the host: {reason}")]
    Refused { protocol: Protocol, address: SocketAddr, reason: String },
    #[error("cannot ask the launcher for {protocol} port {address} of the host: {source}")]
    Launcher { protocol: Protocol, address: SocketAddr, source: io::Error },
}

impl PortError {
    pub(crate) fn host(port: HostPort, errno: i32) -> Self {
        let HostPort { protocol, address } = port;
        let source = io::Error::from_raw_os_error(errno);
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { protocol, address },
            io::ErrorKind::PermissionDenied => Self::Permission { protocol, address },
            io::ErrorKind::AddrNotAvailable => Self::NoAddress { protocol, address },
            _ => Self::Host { protocol, address, source },
        }
    }

    pub(crate) fn launcher(port: HostPort, source: io::Error) -> Self {
        Self::Launcher { protocol: port.protocol, address: port.address, source }
    }
}

/// Why a driver did not open or close a port.
#[derive(Debug)]
pub(crate) enum Refusal {
    Kernel(rustix::io::Errno),
    Driver(String),
}

/// Brings ports of the host inside. Lives in the launcher, on the host.
pub(crate) trait PortDriver {
    /// The socket, where it is handed in.
    fn open(&mut self, port: HostPort, inside: Option<SocketAddr>) -> Result<Option<OwnedFd>, Refusal>;

    fn close(&mut self, port: HostPort) -> Result<(), Refusal>;

    /// The network driver has been started anew, and knows of no port.
    fn network_restarted(&mut self);
}

/// The driver that the configuration names.
pub(crate) fn driver(config: &Config, state: &StateDir) -> Box<dyn PortDriver> {
    match config.port_driver {
        config::PortDriver::Builtin => Box::new(builtin::Builtin),
        config::PortDriver::Slirp4netns => Box::new(slirp4netns::Slirp4netns::new(state.slirp4netns_socket())),
        config::PortDriver::None => Box::new(NoPorts),
    }
}

/// Answers one request of the namespace.
///
/// # Errors
/// The answer could not be sent.
pub(crate) fn serve(driver: &mut dyn PortDriver, channel: &Channel, request: PortRequest) -> io::Result<()> {
    let done = match request {
        PortRequest::Open { port, inside } => driver.open(port, inside),
        PortRequest::Close { port } => driver.close(port).map(|()| None),
    };
    match done {
        Ok(socket) => channel.send(&PortReply::Done, socket.as_ref().map(AsFd::as_fd)),
        Err(Refusal::Kernel(e)) => channel.send(&PortReply::Failed { errno: e.raw_os_error() }, None),
        Err(Refusal::Driver(reason)) => channel.send(&PortReply::Refused { reason }, None),
    }
}

/// `K3S_ROOTLESS_PORT_DRIVER=none`: no port of the host is ever opened.
struct NoPorts;

impl PortDriver for NoPorts {
    fn open(&mut self, _: HostPort, _: Option<SocketAddr>) -> Result<Option<OwnedFd>, Refusal> {
        Err(Refusal::Driver("K3S_ROOTLESS_PORT_DRIVER is none".into()))
    }

    fn close(&mut self, _: HostPort) -> Result<(), Refusal> {
        Ok(())
    }

    fn network_restarted(&mut self) {}
}
