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

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{IpTransparent, Mark, ReuseAddr};
use nix::sys::socket::{SockaddrStorage, bind, setsockopt};
use parking_lot::Mutex;

/// The mark (a bit of it) on connections in a client's name.
pub const CONNECTION_MARK: u32 = 0x0010_0000;

static KEPT: AtomicBool = AtomicBool::new(false);

/// From now on, connections are made in the client's name where that can work: the way back is in place.
pub(crate) fn keep() {
    KEPT.store(true, Ordering::Relaxed);
}

/// The device of the network driver.
#[derive(Debug)]
pub(crate) struct Device {
    name: String,
    address: Ipv4Addr,
    routes: Mutex<Routes>,
}

/// How long it is believed that a route is as it was: it takes four calls to look, and a client comes again.
const BELIEVED: Duration = Duration::from_secs(1);
/// Clients that are remembered.
const REMEMBERED: usize = 256;

/// Whether clients' addresses are reached by the device.
#[derive(Debug)]
struct Routes {
    since: Instant,
    by_device: HashMap<IpAddr, bool>,
}

impl Device {
    pub(crate) fn new(name: impl Into<String>, address: Ipv4Addr) -> Self {
        let routes = Routes { since: Instant::now(), by_device: HashMap::new() };
        Self { name: name.into(), address, routes: Mutex::new(routes) }
    }

    /// Whether what is for this address leaves by the device.
    fn leads_to(&self, address: IpAddr) -> bool {
        let mut routes = self.routes.lock();
        if routes.since.elapsed() > BELIEVED || routes.by_device.len() >= REMEMBERED {
            *routes = Routes { since: Instant::now(), by_device: HashMap::new() };
        }
        *routes.by_device.entry(address).or_insert_with(|| self.look(address))
    }

    /// Connecting sends nothing: it looks the route up and takes the address that goes with it.
    fn look(&self, address: IpAddr) -> bool {
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let leaves_from = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((address, 9))?;
            socket.local_addr()
        });
        match leaves_from.map(|from| from.ip()) {
            Ok(IpAddr::V4(from)) => from == self.address,
            Ok(IpAddr::V6(from)) if from != address => has_ipv6(&self.name, from),
            _ => false,
        }
    }
}

/// Gives a socket that is about to connect to `target` the client's address. Returns whether it has it.
///
/// # Errors
/// The address is taken, or the process lacks the capability (`CAP_NET_ADMIN`).
pub(super) fn assume(socket: &impl AsFd, client: SocketAddr, target: SocketAddr, device: &Device) -> io::Result<bool> {
    if !KEPT.load(Ordering::Relaxed) || !is_foreign(client, target, device) {
        return Ok(false);
    }
    setsockopt(socket, Mark, &CONNECTION_MARK)?;
    // IPv6 sockets have the same flag, and take the option of IPv4 for it (ipv6_setsockopt in the kernel's
    // net/ipv6/ipv6_sockglue.c passes it on).
    setsockopt(socket, IpTransparent, &true)?;
    // The client's port may be the one of an old connection in TIME_WAIT, or of one to another target.
    setsockopt(socket, ReuseAddr, &true)?;
    bind(socket.as_fd().as_raw_fd(), &SockaddrStorage::from(client))?;
    Ok(true)
}

/// Whether the client's address means the same inside. Loopback and the namespaces' own networks do not: an answer to
/// them would stay in the pod, or go to another one. What is foreign is what leaves by the device of the network
/// driver.
fn is_foreign(client: SocketAddr, target: SocketAddr, device: &Device) -> bool {
    let address = client.ip();
    if client.is_ipv4() != target.is_ipv4()
        || [address, target.ip()].iter().any(IpAddr::is_loopback)
        || address.is_unspecified()
        || is_link_local(address)
        || address == device.address
    {
        return false;
    }
    device.leads_to(address)
}

/// Such an address is one of a link, and inside there are others.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The device has its IPv6 addresses from the network driver's router advertisements, so they are looked up.
fn has_ipv6(device: &str, address: Ipv6Addr) -> bool {
    let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| listed(line) == Some((device, address)))
}

/// Device and address of a line: address, index, prefix length, scope, flags, device; all but the last hexadecimal.
fn listed(line: &str) -> Option<(&str, Ipv6Addr)> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    Some((fields.nth(4)?, Ipv6Addr::from(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_links_and_other_families_are_not_foreign() {
        let device = Device::new("tap0", Ipv4Addr::new(10, 41, 0, 100));
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (pod, pod6) = (address("10.42.0.7:80"), address("[fd00:42::7]:80"));
        assert!(!is_foreign(address("127.0.0.1:4000"), pod, &device));
        assert!(!is_foreign(address("[2001:db8::1]:4000"), pod, &device));
        assert!(!is_foreign(address("192.0.2.7:4000"), pod6, &device));
        assert!(!is_foreign(address("10.41.0.100:4000"), pod, &device), "our own");
        assert!(!is_foreign(address("192.0.2.7:4000"), address("127.0.0.1:80"), &device), "no answer leaves loopback");
        assert!(!is_foreign(address("[::1]:4000"), pod6, &device));
        assert!(!is_foreign(address("[fe80::1]:4000"), pod6, &device), "of the host's link");
        assert!(!is_foreign(address("[2001:db8::1]:4000"), address("[::1]:80"), &device));
    }

    #[test]
    fn addresses_of_a_device_are_read_as_the_kernel_lists_them() {
        let line = "fd00000000000000a8c1abfffe0c1f2e 02 40 00 00     tap0";
        assert_eq!(listed(line), Some(("tap0", "fd00::a8c1:abff:fe0c:1f2e".parse().unwrap())));
        assert_eq!(listed(""), None);
    }
}
