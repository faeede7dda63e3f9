//! The address of the host that a datagram was sent to: a host with several must answer from that one, or the client
//! takes the answer for somebody else's.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// `None` where the kernel does not say.
pub(super) type Asked = Option<IpAddr>;

/// Has the kernel say it.
///
/// # Errors
/// It does not for this socket. Answers then have the address that the route to the client has.
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// A datagram: its length, its sender, and whom it asked.
pub(super) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Asked)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut iov = [IoSliceMut::new(buffer)];
            let mut space = nix::cmsg_space!(libc::in6_pktinfo);
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let message = recvmsg::<SockaddrStorage>(fd, &mut iov, Some(&mut space), flags)?;
            let asked = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into())
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
                _ => None,
            });
            let client = message.address.as_ref().and_then(socket_address).ok_or(io::ErrorKind::InvalidData)?;
            Ok((message.bytes, client, asked))
        })
        .await
}

/// Answers from the address that was asked.
pub(super) async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr, asked: Asked) -> io::Result<()> {
    match asked {
        None => socket.send_to(bytes, client).await.map(drop),
        Some(IpAddr::V4(asked)) => {
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(asked).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send_from(socket, bytes, client, &ControlMessage::Ipv4PacketInfo(&source)).await
        }
        Some(IpAddr::V6(asked)) => {
            let address = libc::in6_addr { s6_addr: asked.octets() };
            // The device is the client's address's, which names it where it is one of a link.
            let source = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            send_from(socket, bytes, client, &ControlMessage::Ipv6PacketInfo(&source)).await
        }
    }
}

async fn send_from(
    socket: &UdpSocket,
    bytes: &[u8],
    client: SocketAddr,
    source: &ControlMessage<'_>,
) -> io::Result<()> {
    let address = SockaddrStorage::from(client);
    let send = || {
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], std::slice::from_ref(source), flags, Some(&address))?;
        Ok(())
    };
    socket.async_io(Interest::WRITABLE, send).await
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
        (_, Some(v6)) => Some(std::net::SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}
