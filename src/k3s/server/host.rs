//! How this machine is called and reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, bail};
use k3s_env::Server;
use k3s_supervisor::{private_dir, public_dir, write_atomically};

/// Where k3s keeps the id that `--with-node-id` adds.
const NODE_ID: &str = "/etc/rancher/node/id";

/// The machine, or the launcher's namespaces in it.
pub struct Host {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// All of the node's addresses, `node_ip` first.
    pub node_ips: Vec<IpAddr>,
    /// The way out of the launcher's namespaces.
    pub rootless: Option<k3s_rootless::Host>,
    /// Ports of the host that lead into them.
    pub published: Option<k3s_rootless::PublishedPorts>,
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
        let mut node_name = match &config.node.name {
            Some(name) => name.clone(),
            None => {
                let name = nix::unistd::gethostname().context("cannot find out this machine's name")?;
                name.to_string_lossy().to_lowercase()
            }
        };
        if config.node.with_id {
            node_name = format!("{node_name}-{}", node_id(Path::new(NODE_ID))?);
        }
        let launched = rootless.as_ref().map(|host| IpAddr::V4(host.info().network.address));
        let node_ip = match config.node.ips.first().copied().or(launched) {
            Some(address) => address,
            None => own_address().context("this machine has no address; give --node-ip")?,
        };
        let more = config.node.ips.iter().copied().filter(|address| *address != node_ip);
        let node_ips = std::iter::once(node_ip).chain(more).collect();
        let published = rootless.clone().map(k3s_rootless::PublishedPorts::new);
        Ok(Self { node_name, node_ip, node_ips, rootless, published })
    }

    /// The sockets of the API server: on the host, and in the launcher's namespaces for pods.
    ///
    /// # Errors
    /// An address that is taken, with its name.
    pub fn api_listeners(&self, config: &Server) -> anyhow::Result<Vec<TcpListener>> {
        let address = SocketAddr::new(config.listener.bind_address, config.listener.port);
        let inside = SocketAddr::new(self.node_ip, config.listener.port);
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

/// The id of this machine as a node, made at the first start.
fn node_id(path: &Path) -> anyhow::Result<String> {
    if let Ok(id) = std::fs::read_to_string(path) {
        return Ok(id.trim().to_owned());
    }
    let id = format!("{:08x}", rand::random::<u32>());
    let folder = path.parent().unwrap_or(Path::new("/"));
    public_dir(folder.parent().unwrap_or(Path::new("/")))?;
    private_dir(folder)?;
    write_atomically(path, id.as_bytes(), 0o600)?;
    Ok(id)
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
