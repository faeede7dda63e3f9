//! UDP: a socket inside for each client outside.

mod asked;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::source::{self, Device};
use asked::{Asked, receive, send};

/// A client that was silent for this long is forgotten, as by the kernel's connection tracking.
const IDLE: Duration = Duration::from_secs(120);
/// Clients of a port at a time; the ones beyond are not served.
const CLIENTS: usize = 4096;
const LARGEST_DATAGRAM: usize = 65_535;

/// By their address and the one they asked: to them these are two servers.
type Clients = Arc<Mutex<HashMap<(SocketAddr, Asked), Arc<UdpSocket>>>>;

/// Until the task is aborted.
pub(crate) async fn run(socket: UdpSocket, target: SocketAddr, device: Arc<Device>) {
    let socket = Arc::new(socket);
    if let Err(error) = asked::prepare(&socket) {
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
            None => match connect(client, target, &device) {
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

fn connect(client: SocketAddr, target: SocketAddr, device: &Device) -> io::Result<UdpSocket> {
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

async fn answer(socket: Arc<UdpSocket>, inside: Arc<UdpSocket>, client: SocketAddr, asked: Asked, clients: Clients) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client receives that asks the relay by this address.
    async fn ask(asked: &str, port: u16, from: &str) -> String {
        let client = UdpSocket::bind((from, 0)).await.unwrap();
        client.connect((asked, port)).await.unwrap();
        client.send(asked.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        let length = timeout(Duration::from_secs(10), client.recv(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    async fn relayed(any: &str, loopback: &str) -> (u16, tokio::task::JoinHandle<()>) {
        let server = UdpSocket::bind((loopback, 0)).await.unwrap();
        let socket = UdpSocket::bind((any, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let device = Arc::new(Device::new("lo", [127, 0, 0, 1].into()));
        let task = tokio::spawn(run(socket, server.local_addr().unwrap(), device));
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        (port, task)
    }

    #[tokio::test]
    async fn each_client_has_its_answers_from_the_address_it_asked() {
        let (port, task) = relayed("0.0.0.0", "127.0.0.1").await;
        // All of 127.0.0.0/8 is this host; an answer from 127.0.0.1 would not be for a socket connected to another.
        for asked in ["127.0.0.1", "127.0.0.2"] {
            assert_eq!(ask(asked, port, "127.0.0.1").await, asked);
        }
        task.abort();
    }

    #[tokio::test]
    async fn so_it_is_with_ipv6() {
        let (port, task) = relayed("::", "::1").await;
        assert_eq!(ask("::1", port, "::1").await, "::1");
        task.abort();
    }
}
