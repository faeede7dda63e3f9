//! How this machine is called and reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, bail};
use k3s_env::Server;

/// The machine, or the launcher's namespaces in it.
pub struct Host {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// The way out of the launcher's namespaces.
    pub rootless: Option<k3s_rootless::Host>,
}

impl Host {
    /// Looks at the machine.
    ///
    /// # Errors
    /// If it has no name or no address.
    pub fn find(config: &Server) -> anyhow::Result<Self> {
        let rootless = k3s_rootless::Host::from_env();
        for warning in rootless.iter().flat_map(|host| &host.info().warnings) {
            tracing::warn!("{warning}");
        }
        let node_name = match &config.node_name {
            Some(name) => name.clone(),
            None => {
                let name = nix::unistd::gethostname().context("cannot find out this machine's name")?;
                name.to_string_lossy().to_lowercase()
            }
        };
        let launched = rootless.as_ref().and_then(|host| host.info().network.as_ref()).map(|it| IpAddr::V4(it.address));
        let node_ip = match config.node_ip.or(launched) {
            Some(address) => address,
            None => own_address().context("this machine has no address; give --node-ip")?,
        };
        Ok(Self { node_name, node_ip, rootless })
    }

    /// The sockets of the API server: on the host, and in the launcher's namespaces for pods.
    ///
    /// # Errors
    /// An address that is taken, with its name.
    pub fn api_listeners(&self, config: &Server) -> anyhow::Result<Vec<TcpListener>> {
        let address = SocketAddr::new(config.bind_address, config.https_listen_port);
        let inside = SocketAddr::new(self.node_ip, config.https_listen_port);
        let listen = |address| {
            TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; another server may run: choose another --https-listen-port")
            })
        };
        match &self.rootless {
            None => Ok(vec![listen(address)?]),
            Some(host) => Ok(vec![host.listen_tcp(address)?, listen(inside)?]),
        }
    }
}

/// The address that packets to elsewhere would have. Nothing is sent.
fn own_address() -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // An address for documentation (RFC 5737): only the route to it matters.
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_ok() {
        return Ok(socket.local_addr()?.ip());
    }
    // No default route: any address but the loopback's.
    let found = nix::ifaddrs::getifaddrs()?.find_map(|interface| {
        let address = IpAddr::V4(interface.address?.as_sockaddr_in()?.ip());
        (!address.is_loopback()).then_some(address)
    });
    match found {
        Some(address) => Ok(address),
        None => bail!("no interface has an IPv4 address but the loopback's"),
    }
}
