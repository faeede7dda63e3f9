//! Node ports and host ports of a rootless node: published on the host by the launcher's port driver, and relayed inside.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use k3s_cri::Protocol;
use k3s_rootless::{LOW_PORT_OFFSET, PublishedPort, PublishedPorts};

/// The host's ports.
pub struct HostPorts {
    ports: PublishedPorts,
}

impl HostPorts {
    /// Ports opened through the launcher.
    pub fn new(ports: PublishedPorts) -> Self {
        Self { ports }
    }

    /// The one that was opened for this; a low port may be open higher.
    fn find(&self, protocol: k3s_rootless::Protocol, listen: SocketAddr) -> Option<PublishedPort> {
        let higher = (listen.port() < 1024).then(|| SocketAddr::new(listen.ip(), listen.port() + LOW_PORT_OFFSET));
        [Some(listen), higher].into_iter().flatten().find_map(|listen| self.ports.find(protocol, listen))
    }
}

#[async_trait]
impl k3s_network::HostPorts for HostPorts {
    async fn open(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
        let protocol = known(protocol)?;
        if let Some(port) = self.find(protocol, listen) {
            if port.target == target {
                return Ok(());
            }
            self.ports.withdraw(port.id).await.map_err(io::Error::other)?;
        }
        let port = self.ports.publish(protocol, listen, target).await.map_err(io::Error::other)?;
        tracing::info!(listen = %port.listen, %protocol, %target, "port of the host is open");
        Ok(())
    }

    async fn close(&self, protocol: Protocol, listen: SocketAddr) -> io::Result<()> {
        match self.find(known(protocol)?, listen) {
            Some(port) => self.ports.withdraw(port.id).await.map_err(io::Error::other),
            None => Ok(()),
        }
    }

    fn client_mark(&self) -> Option<u32> {
        Some(k3s_rootless::CONNECTION_MARK)
    }

    fn client_addresses_come_back(&self) {
        self.ports.keep_client_addresses();
    }
}

fn known(protocol: Protocol) -> io::Result<k3s_rootless::Protocol> {
    match protocol {
        Protocol::Tcp => Ok(k3s_rootless::Protocol::Tcp),
        Protocol::Udp => Ok(k3s_rootless::Protocol::Udp),
        Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "SCTP can't be relayed")),
    }
}
