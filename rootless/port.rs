//! The built-in port driver: the launcher binds on the host and hands the socket itself inside.
//!
//! A socket belongs to the network namespace it was made in, wherever its descriptor goes: whoever
//! accepts on it inside serves the host's port directly. The launcher keeps no copy, so that the
//! port is free again as soon as the receiver closes the socket or dies.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;

/// Connections the kernel keeps for a listener that is busy; Go's and Kubernetes' servers take what
/// `net.core.somaxconn` allows, whose default this is.
const BACKLOG: i32 = 4096;

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What the namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenPort {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// The answer; a socket comes along with `Opened`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortReply {
    Opened,
    Failed { errno: i32 },
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
    #[error("cannot ask the launcher for {protocol} port {address} of the host: {source}")]
    Launcher { protocol: Protocol, address: SocketAddr, source: io::Error },
}

impl PortError {
    pub(crate) fn host(port: OpenPort, errno: i32) -> Self {
        let OpenPort { protocol, address } = port;
        let source = io::Error::from_raw_os_error(errno);
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { protocol, address },
            io::ErrorKind::PermissionDenied => Self::Permission { protocol, address },
            io::ErrorKind::AddrNotAvailable => Self::NoAddress { protocol, address },
            _ => Self::Host { protocol, address, source },
        }
    }
}

/// Answers one request of the namespace.
///
/// # Errors
/// The answer could not be sent.
pub(crate) fn serve(channel: &Channel, port: OpenPort) -> io::Result<()> {
    match open(port) {
        Ok(socket) => channel.send(&PortReply::Opened, Some(socket.as_fd())),
        Err(e) => channel.send(&PortReply::Failed { errno: e.raw_os_error() }, None),
    }
}

fn open(port: OpenPort) -> rustix::io::Result<OwnedFd> {
    let family = if port.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match port.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if port.protocol == Protocol::Tcp {
        // A restarted server must not wait for connections of its predecessor in TIME_WAIT. With
        // UDP the same option would let two programs share a port.
        set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &port.address)?;
    if port.protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, address: &str) -> OpenPort {
        OpenPort { protocol, address: address.parse().unwrap() }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = OpenPort { protocol: Protocol::Tcp, address: taken.local_addr().unwrap() };
        let errno = open(port).unwrap_err().raw_os_error();
        let error = PortError::host(port, errno);
        assert!(matches!(error, PortError::InUse { .. }));
        assert!(error.to_string().contains(&port.address.to_string()));
    }

    #[test]
    fn a_udp_port_is_not_shared() {
        let first = open(port(Protocol::Udp, "127.0.0.1:0")).unwrap();
        let address = std::net::UdpSocket::from(first.try_clone().unwrap()).local_addr().unwrap();
        let again = OpenPort { protocol: Protocol::Udp, address };
        let errno = open(again).unwrap_err().raw_os_error();
        assert!(matches!(PortError::host(again, errno), PortError::InUse { .. }));
    }

    #[test]
    fn each_refusal_is_its_own_error() {
        let port = port(Protocol::Tcp, "192.0.2.1:443");
        let errno = open(port).unwrap_err().raw_os_error();
        assert!(matches!(PortError::host(port, errno), PortError::NoAddress { .. }));
        let error = PortError::host(port, rustix::io::Errno::ACCESS.raw_os_error());
        assert!(matches!(error, PortError::Permission { .. }));
        assert!(error.to_string().contains("ip_unprivileged_port_start=443"), "{error}");
    }
}
