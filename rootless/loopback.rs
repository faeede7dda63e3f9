//! The loopback device of a new network namespace, which the kernel leaves down.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Sets `lo` up; the kernel gives it 127.0.0.1 and ::1 by itself then.
pub(crate) fn up() -> io::Result<()> {
    let mut request = request(b"lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    send(libc::SIOCSIFFLAGS as _, &request)
}

/// Gives `lo` another address, which is then one of this node's.
pub(crate) fn add_address(address: Ipv4Addr) -> io::Result<()> {
    // A label of its own, or the address would take the place of 127.0.0.1.
    let mut request = request(b"lo:0");
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: sockaddr_in has the size of sockaddr, and any bytes are a valid value of it.
    request.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    send(libc::SIOCSIFADDR as _, &request)
}

fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: zero is a valid value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

fn send(number: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: both requests read one ifreq, which lives across the call (netdevice(7)).
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_ref(request)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
