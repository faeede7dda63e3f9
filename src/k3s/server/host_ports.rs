//! Ports of the host that lead into the launcher's namespaces: the listening socket is handed in, and what it accepts is
//! relayed to the node port inside.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k3s_cri::Protocol;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A UDP client that was silent for this long is forgotten, as by the kernel's connection tracking.
const UDP_IDLE: Duration = Duration::from_secs(120);
/// UDP clients of a port at a time; the ones beyond are not served.
const UDP_CLIENTS: usize = 4096;
const LARGEST_DATAGRAM: usize = 65_535;

/// The host's ports.
pub struct HostPorts {
    host: k3s_rootless::Host,
    open: Mutex<HashMap<(Protocol, SocketAddr), (SocketAddr, AbortHandle)>>,
}

impl HostPorts {
    /// Ports opened through the launcher.
    pub fn new(host: k3s_rootless::Host) -> Self {
        Self { host, open: Mutex::default() }
    }

    async fn serve(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<AbortHandle> {
        let host = self.host.clone();
        match protocol {
            Protocol::Tcp => {
                let socket = tokio::task::spawn_blocking(move || host.listen_tcp(listen)).await?;
                let socket = socket.map_err(io::Error::other)?;
                socket.set_nonblocking(true)?;
                Ok(tokio::spawn(relay_tcp(TcpListener::from_std(socket)?, target)).abort_handle())
            }
            Protocol::Udp => {
                let socket = tokio::task::spawn_blocking(move || host.bind_udp(listen)).await?;
                let socket = socket.map_err(io::Error::other)?;
                socket.set_nonblocking(true)?;
                Ok(tokio::spawn(relay_udp(Arc::new(UdpSocket::from_std(socket)?), target)).abort_handle())
            }
            Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "SCTP can't be relayed")),
        }
    }
}

#[async_trait]
impl k3s_network::HostPorts for HostPorts {
    async fn open(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
        if self.open.lock().get(&(protocol, listen)).is_some_and(|(have, task)| *have == target && !task.is_finished())
        {
            return Ok(());
        }
        self.close(protocol, listen).await?;
        let task = self.serve(protocol, listen, target).await?;
        tracing::info!(%listen, ?protocol, %target, "port of the host is open");
        self.open.lock().insert((protocol, listen), (target, task));
        Ok(())
    }

    async fn close(&self, protocol: Protocol, listen: SocketAddr) -> io::Result<()> {
        if let Some((_, task)) = self.open.lock().remove(&(protocol, listen)) {
            task.abort();
        }
        Ok(())
    }
}

async fn relay_tcp(listener: TcpListener, target: SocketAddr) {
    // Connections end with the port.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((mut client, _)) => {
                connections.spawn(async move {
                    match TcpStream::connect(target).await {
                        Ok(mut inside) => {
                            // Either side may be gone at any time; the other is closed then.
                            let _ = copy_bidirectional(&mut client, &mut inside).await;
                        }
                        Err(error) => tracing::debug!(%target, %error, "nobody answers behind a port of the host"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%target, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn relay_udp(socket: Arc<UdpSocket>, target: SocketAddr) {
    let clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let known = clients.lock().get(&client).cloned();
        let inside = match known {
            Some(inside) => inside,
            None if clients.lock().len() >= UDP_CLIENTS => continue,
            None => {
                let connect = async {
                    let inside = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
                    inside.connect(target).await?;
                    io::Result::Ok(Arc::new(inside))
                };
                let Ok(inside) = connect.await else { continue };
                clients.lock().insert(client, inside.clone());
                tasks.spawn(answer_udp(socket.clone(), inside.clone(), client, clients.clone()));
                inside
            }
        };
        // Datagrams may be lost.
        let _ = inside.send(&buffer[..length]).await;
    }
}

async fn answer_udp(
    socket: Arc<UdpSocket>,
    inside: Arc<UdpSocket>,
    client: SocketAddr,
    clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    while let Ok(Ok(length)) = timeout(UDP_IDLE, inside.recv(&mut buffer)).await {
        if socket.send_to(&buffer[..length], client).await.is_err() {
            break;
        }
    }
    clients.lock().remove(&client);
}
