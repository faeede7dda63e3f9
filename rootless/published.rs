//! Ports of the host that lead to addresses inside, each with its relay. They can come and go while all runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::config::PortDriver;
use crate::host::{Host, NetworkInfo};
use crate::port::{PortError, Protocol};
use crate::relay::{self, Device, TcpPort, TcpRelay};

/// What is added to a port below 1024 that the host does not give to ordinary users, as in k3s.
pub const LOW_PORT_OFFSET: u16 = 10_000;

/// Names a published port, for as long as this process lives.
pub type PortId = u64;

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    pub id: PortId,
    pub protocol: Protocol,
    /// On the host; its port is the one that is really open.
    pub listen: SocketAddr,
    /// Inside.
    pub target: SocketAddr,
}

/// All published ports of this process. Clones are the same.
#[derive(Clone)]
pub struct PublishedPorts(Arc<Inner>);

struct Inner {
    host: Host,
    open: Mutex<Open>,
    device: Arc<Device>,
    /// From the first TCP port on.
    tcp: Mutex<Option<TcpRelay>>,
}

/// Who relays a port.
enum Serving {
    Tcp(TcpPort),
    Udp(AbortHandle),
}

impl Serving {
    /// Closes the port. May wait for the threads that relay, which takes microseconds.
    fn end(self) {
        match self {
            Self::Tcp(port) => port.close(),
            Self::Udp(task) => task.abort(),
        }
    }
}

#[derive(Default)]
struct Open {
    last: PortId,
    ports: BTreeMap<PortId, (PublishedPort, Serving)>,
}

/// A port could not be published, or not be withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("cannot relay {protocol} port {listen} of the host: {source}")]
    Relay { protocol: Protocol, listen: SocketAddr, source: io::Error },
    #[error("{protocol} port {listen} of the host already leads to {target} (id {id})")]
    Published { protocol: Protocol, listen: SocketAddr, target: SocketAddr, id: PortId },
    #[error("no port of the host has the id {id}")]
    Unknown { id: PortId },
}

impl PublishedPorts {
    /// None yet.
    pub fn new(host: Host) -> Self {
        let NetworkInfo { device: name, address, .. } = host.info().network.clone();
        let device = Arc::new(Device::new(name, address));
        Self(Arc::new(Inner { host, open: Mutex::default(), device, tcp: Mutex::default() }))
    }

    /// The host they are of.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// From now on, servers see clients' own addresses as far as that is possible. To be called when the way back of
    /// their answers is in place: what carries [`CONNECTION_MARK`](crate::CONNECTION_MARK) is tracked, and answers to
    /// it are delivered locally.
    pub fn keep_client_addresses(&self) {
        relay::keep();
    }

    /// Opens a port of the host and relays what arrives to `target`. Needs a tokio runtime, and returns when clients can
    /// connect. A port below 1024 that is not for ordinary users is opened 10000 higher; the answer says.
    ///
    /// # Errors
    /// The port is in use or cannot be opened.
    pub async fn publish(
        &self,
        protocol: Protocol,
        listen: SocketAddr,
        target: SocketAddr,
    ) -> Result<PublishedPort, PublishError> {
        let target = reachable(target);
        if self.0.host.info().port_driver == PortDriver::None {
            let reason = "K3S_ROOTLESS_PORT_DRIVER is none".to_owned();
            return Err(PortError::Refused { protocol, address: listen, reason }.into());
        }
        if let Some(port) = self.find(protocol, listen) {
            return Err(PublishError::Published { protocol, listen, target: port.target, id: port.id });
        }
        let (listen, serving) = match self.serve(protocol, listen, target).await {
            Err(PublishError::Port(PortError::Permission { .. })) if listen.port() < 1024 => {
                let higher = SocketAddr::new(listen.ip(), listen.port() + LOW_PORT_OFFSET);
                let serving = self.serve(protocol, higher, target).await?;
                say_once(listen, higher);
                (higher, serving)
            }
            served => (listen, served?),
        };
        let mut open = self.0.open.lock();
        open.last += 1;
        let port = PublishedPort { id: open.last, protocol, listen, target };
        open.ports.insert(port.id, (port, serving));
        Ok(port)
    }

    /// Closes a port and all connections through it.
    ///
    /// # Errors
    /// There is none of that id, or the port driver will not close it.
    pub async fn withdraw(&self, id: PortId) -> Result<(), PublishError> {
        let (port, serving) = self.0.open.lock().ports.remove(&id).ok_or(PublishError::Unknown { id })?;
        let host = self.0.host.clone();
        let close = move || {
            serving.end();
            host.close(port.protocol, port.listen)
        };
        let closed = tokio::task::spawn_blocking(close).await;
        let failed = |source| PublishError::Relay { protocol: port.protocol, listen: port.listen, source };
        Ok(closed.map_err(|e| failed(e.into()))??)
    }

    /// All of them, in the order in which they were published.
    pub fn list(&self) -> Vec<PublishedPort> {
        self.0.open.lock().ports.values().map(|(port, _)| *port).collect()
    }

    /// The one that listens there.
    pub fn find(&self, protocol: Protocol, listen: SocketAddr) -> Option<PublishedPort> {
        self.list().into_iter().find(|port| port.protocol == protocol && port.listen == listen)
    }

    async fn serve(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> Result<Serving, PublishError> {
        let failed = |source| PublishError::Relay { protocol, listen, source };
        let host = self.0.host.clone();
        let device = self.0.device.clone();
        // The launcher answers within microseconds, but may be starting the network driver anew.
        match protocol {
            Protocol::Tcp => {
                let socket = tokio::task::spawn_blocking(move || host.listen_tcp(listen)).await;
                let socket = socket.map_err(|e| failed(e.into()))??;
                let mut relay = self.0.tcp.lock();
                let relay = match &mut *relay {
                    Some(relay) => relay,
                    none => none.insert(TcpRelay::start().map_err(failed)?),
                };
                Ok(Serving::Tcp(relay.serve(socket, target, device).map_err(failed)?))
            }
            Protocol::Udp => {
                let socket = tokio::task::spawn_blocking(move || host.bind_udp(listen)).await;
                let socket = socket.map_err(|e| failed(e.into()))??;
                socket.set_nonblocking(true).map_err(failed)?;
                let socket = UdpSocket::from_std(socket).map_err(failed)?;
                Ok(Serving::Udp(tokio::spawn(relay::udp(socket, target, device)).abort_handle()))
            }
        }
    }
}

/// No address means this node's loopback, as in rootlesskit.
fn reachable(target: SocketAddr) -> SocketAddr {
    let ip = match target.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, target.port())
}

fn say_once(wanted: SocketAddr, open: SocketAddr) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            %wanted, %open,
            "ports of the host below 1024 are not for ordinary users, so they are opened 10000 higher; allow them with: \
             sudo sysctl -w net.ipv4.ip_unprivileged_port_start=0"
        );
    }
}
