//! Node ports and host ports of a rootless node: published on the host by the launcher's port driver, and relayed inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use k3s_cri::Protocol;
use k3s_rootless::{LOW_PORT_OFFSET, PortError, PublishError, PublishedPort, PublishedPorts};

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

    /// Opens one port, unless it is open already.
    async fn open_one(
        &self,
        protocol: k3s_rootless::Protocol,
        listen: SocketAddr,
        target: SocketAddr,
    ) -> Result<(), PublishError> {
        if let Some(port) = self.find(protocol, listen) {
            if port.target == target {
                return Ok(());
            }
            self.ports.withdraw(port.id).await?;
        }
        let port = self.ports.publish(protocol, listen, target).await?;
        tracing::info!(listen = %port.listen, %protocol, %target, "port of the host is open");
        Ok(())
    }
}

#[async_trait]
impl k3s_network::HostPorts for HostPorts {
    async fn open(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
        let protocol = known(protocol)?;
        self.open_one(protocol, listen, target).await.map_err(io::Error::other)?;
        let Some(listen) = of_ipv6(listen) else { return Ok(()) };
        match self.open_one(protocol, listen, target).await {
            Err(error) if has_no_ipv6(&error) => {
                tracing::debug!(%listen, %error, "the port is open to clients of IPv4 only");
                Ok(())
            }
            opened => opened.map_err(io::Error::other),
        }
    }

    async fn close(&self, protocol: Protocol, listen: SocketAddr) -> io::Result<()> {
        let protocol = known(protocol)?;
        for listen in [Some(listen), of_ipv6(listen)].into_iter().flatten() {
            if let Some(port) = self.find(protocol, listen) {
                self.ports.withdraw(port.id).await.map_err(io::Error::other)?;
            }
        }
        Ok(())
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

/// All addresses of the host are also those of IPv6, which take a socket of their own.
fn of_ipv6(listen: SocketAddr) -> Option<SocketAddr> {
    let all = listen.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    all.then(|| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), listen.port()))
}

/// The host, or the port driver (slirp4netns).
fn has_no_ipv6(error: &PublishError) -> bool {
    match error {
        PublishError::Port(PortError::NoAddress { .. } | PortError::Refused { .. }) => true,
        PublishError::Port(PortError::Host { source, .. }) => {
            source.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
        }
        _ => false,
    }
}
