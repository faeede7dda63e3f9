//! The built-in port driver: the launcher binds on the host and hands the socket itself inside.
//!
//! A socket belongs to the network namespace it was made in, wherever its descriptor goes: whoever
//! accepts on it inside serves the host's port directly. The launcher keeps no copy, so that the
//! port is free again as soon as the receiver closes the socket or dies.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use super::{HostPort, PortDriver, Protocol, Refusal};

/// Connections the kernel keeps for a listener that is busy; Go's and Kubernetes' servers take what
/// `net.core.somaxconn` allows, whose default this is.
const BACKLOG: i32 = 4096;

pub(super) struct Builtin;

impl PortDriver for Builtin {
    fn open(&mut self, port: HostPort, _inside: Option<SocketAddr>) -> Result<Option<OwnedFd>, Refusal> {
        open(port).map(Some).map_err(Refusal::Kernel)
    }

    /// Whoever has the socket closes it.
    fn close(&mut self, _port: HostPort) -> Result<(), Refusal> {
        Ok(())
    }

    fn network_restarted(&mut self) {}
}

pub(super) fn open(port: HostPort) -> rustix::io::Result<OwnedFd> {
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
    if port.address.is_ipv6() {
        // `[::]` beside `0.0.0.0` is another port.
        set_ipv6_v6only(&socket, true)?;
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
    use crate::port::PortError;

    fn port(protocol: Protocol, address: &str) -> HostPort {
        HostPort { protocol, address: address.parse().unwrap() }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = HostPort { protocol: Protocol::Tcp, address: taken.local_addr().unwrap() };
        let errno = open(port).unwrap_err().raw_os_error();
        let error = PortError::host(port, errno);
        assert!(matches!(error, PortError::InUse { .. }));
        assert!(error.to_string().contains(&port.address.to_string()));
    }

    #[test]
    fn a_udp_port_is_not_shared() {
        let first = open(port(Protocol::Udp, "127.0.0.1:0")).unwrap();
        let address = std::net::UdpSocket::from(first.try_clone().unwrap()).local_addr().unwrap();
        let again = HostPort { protocol: Protocol::Udp, address };
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
