//! The client's own address as the source of the connection inside.
//!
//! A socket with `IP_TRANSPARENT` may have an address that is not of this host (ip(7)). The server's answers are then
//! for that address, and would leave by the default route: they must be brought back to this socket. That takes, in
//! the namespaces,
//!
//! - the mark of the socket ([`CONNECTION_MARK`]) kept in connection tracking, since a mark does not reach a pod and
//!   back, and given to the answers again;
//! - a routing rule by which what has that mark is delivered locally.
//!
//! `k3s-network` sets both up. Where they are not in place, a process says so by never calling [`keep`], and servers
//! see an address of the node.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::sockopt::{IpTransparent, Mark, ReuseAddr};
use nix::sys::socket::{SockaddrStorage, bind, setsockopt};

/// The mark (a bit of it) on connections in a client's name.
pub const CONNECTION_MARK: u32 = 0x0010_0000;

static KEPT: AtomicBool = AtomicBool::new(false);

/// From now on, connections are made in the client's name where that can work: the way back is in place.
pub(crate) fn keep() {
    KEPT.store(true, Ordering::Relaxed);
}

/// Gives a socket that is about to connect to `target` the client's address. Returns whether it has it.
///
/// # Errors
/// The address is taken, or the process lacks the capability (`CAP_NET_ADMIN`).
pub(super) fn assume(socket: &impl AsFd, client: SocketAddr, target: SocketAddr, device: Ipv4Addr) -> io::Result<bool> {
    if !KEPT.load(Ordering::Relaxed) || !is_foreign(client, target, device) {
        return Ok(false);
    }
    setsockopt(socket, Mark, &CONNECTION_MARK)?;
    setsockopt(socket, IpTransparent, &true)?;
    // The client's port may be the one of an old connection in TIME_WAIT, or of one to another target.
    setsockopt(socket, ReuseAddr, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd()), &SockaddrStorage::from(client))?;
    Ok(true)
}

/// Whether the client's address means the same inside. Loopback and the namespaces' own networks do not: an answer to
/// them would stay in the pod, or go to another one. What is foreign is what leaves by the device of the network
/// driver.
fn is_foreign(client: SocketAddr, target: SocketAddr, device: Ipv4Addr) -> bool {
    let (IpAddr::V4(address), true) = (client.ip(), target.is_ipv4()) else { return false };
    if address.is_loopback() || address.is_unspecified() || target.ip().is_loopback() || address == device {
        return false;
    }
    // Connecting sends nothing: it looks the route up and takes the address that goes with it.
    let leaves_from = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    leaves_from.is_ok_and(|from| from.ip() == IpAddr::V4(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_other_families_are_not_foreign() {
        let device = Ipv4Addr::new(10, 41, 0, 100);
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let pod = address("10.42.0.7:80");
        assert!(!is_foreign(address("127.0.0.1:4000"), pod, device));
        assert!(!is_foreign(address("[2001:db8::1]:4000"), pod, device));
        assert!(!is_foreign(address("10.41.0.100:4000"), pod, device), "our own");
        assert!(!is_foreign(address("192.0.2.7:4000"), address("127.0.0.1:80"), device), "no answer leaves loopback");
    }
}
