//! UDP: a socket inside for each client outside.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt};
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::source;

/// A client that was silent for this long is forgotten, as by the kernel's connection tracking.
const IDLE: Duration = Duration::from_secs(120);
/// Clients of a port at a time; the ones beyond are not served.
const CLIENTS: usize = 4096;
const LARGEST_DATAGRAM: usize = 65_535;

type Clients = Arc<Mutex<HashMap<(SocketAddr, Option<Ipv4Addr>), Arc<UdpSocket>>>>;

/// Until the task is aborted.
pub(crate) async fn run(socket: UdpSocket, target: SocketAddr, device: Ipv4Addr) {
    let socket = Arc::new(socket);
    if socket.local_addr().is_ok_and(|address| address.is_ipv4())
        && let Err(error) = setsockopt(&socket, Ipv4PacketInfo, &true)
    {
        tracing::debug!(%error, "answers may come from another address of the host than was asked");
    }
    let clients = Clients::default();
    let mut tasks = tokio::task::JoinSet::new();
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        while tasks.try_join_next().is_some() {}
        // An error is of a datagram sent before: its receiver is gone.
        let Ok((length, client, asked)) = receive(&socket, &mut buffer).await else { continue };
        let known = clients.lock().get(&(client, asked)).cloned();
        let inside = match known {
            Some(inside) => inside,
            None if clients.lock().len() >= CLIENTS => continue,
            None => match connect(client, target, device).await {
                Ok(inside) => {
                    let inside = Arc::new(inside);
                    clients.lock().insert((client, asked), inside.clone());
                    tasks.spawn(answer(socket.clone(), inside.clone(), client, asked, clients.clone()));
                    inside
                }
                Err(error) => {
                    tracing::debug!(%client, %target, %error, "cannot relay a datagram");
                    continue;
                }
            },
        };
        // Datagrams may be lost.
        let _ = inside.send(&buffer[..length]).await;
    }
}

async fn connect(client: SocketAddr, target: SocketAddr, device: Ipv4Addr) -> io::Result<UdpSocket> {
    let new = || -> io::Result<std::net::UdpSocket> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(socket_with(family, SocketType::DGRAM, flags, None)?.into())
    };
    let mut socket = new()?;
    if let Err(error) = source::assume(&socket, client, target, device) {
        tracing::debug!(%client, %target, %error, "cannot keep a client's address");
        socket = new()?;
    }
    socket.connect(target)?;
    UdpSocket::from_std(socket)
}

async fn answer(
    socket: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    client: SocketAddr,
    asked: Option<Ipv4Addr>,
    clients: Clients,
) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        match timeout(IDLE, inside.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                if send(&socket, &buffer[..length], client, asked).await.is_err() {
                    break;
                }
            }
            // Nobody listens inside right now; the client may try again.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    clients.lock().remove(&(client, asked));
}

/// A datagram, its sender, and the address of the host that it was sent to: a host with several must answer from that
/// one, or the client takes the answer for somebody else's.
async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Ipv4Addr>)> {
    if !socket.local_addr()?.is_ipv4() {
        let (length, client) = socket.recv_from(buffer).await?;
        return Ok((length, client, None));
    }
    socket
        .async_io(Interest::READABLE, || {
            let mut iov = [IoSliceMut::new(buffer)];
            let mut space = nix::cmsg_space!(libc::in_pktinfo);
            let message =
                recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
            let asked = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
                _ => None,
            });
            let client = message.address.ok_or(io::ErrorKind::InvalidData)?;
            Ok((message.bytes, SocketAddr::from((client.ip(), client.port())), asked))
        })
        .await
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr, asked: Option<Ipv4Addr>) -> io::Result<()> {
    let (Some(asked), IpAddr::V4(address)) = (asked, client.ip()) else {
        return socket.send_to(bytes, client).await.map(drop);
    };
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(address, client.port()));
    let source = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(asked).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    socket
        .async_io(Interest::WRITABLE, || {
            let control = [ControlMessage::Ipv4PacketInfo(&source)];
            sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_DONTWAIT, Some(&address))?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_has_its_answers_from_the_address_it_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let task = tokio::spawn(run(socket, server.local_addr().unwrap(), Ipv4Addr::LOCALHOST));
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        // All of 127.0.0.0/8 is this host; an answer from 127.0.0.1 would not be for a socket connected to another.
        for asked in ["127.0.0.1", "127.0.0.2"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect((asked, port)).await.unwrap();
            client.send(asked.as_bytes()).await.unwrap();
            let mut buffer = [0; 64];
            let length = timeout(Duration::from_secs(10), client.recv(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(&buffer[..length], asked.as_bytes());
        }
        task.abort();
    }
}
