//! What the network is told when it starts.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use k3s_cri::Protocol;

/// Settings of one node's network.
#[derive(Clone)]
pub struct NetworkConfig {
    /// Name of this node's Node object, which says its pod CIDR.
    pub node_name: String,
    /// k3s's data directory; leases live in `agent/cni` under it.
    pub data_dir: PathBuf,
    /// `--cluster-cidr`: where all pods of the cluster are. Traffic to it is never masqueraded.
    pub cluster_cidr: Vec<IpNet>,
    /// `--service-cidr`: where cluster IPs are.
    pub service_cidr: Vec<IpNet>,
    /// Whether this node's traffic to services is led to their endpoints; without, somebody else's proxy does it
    /// (`--disable-kube-proxy`). Host ports and the way out of pods are the network's in any case.
    pub service_proxy: bool,
    /// This node's addresses, the primary one first.
    pub node_ips: Vec<std::net::IpAddr>,
    /// Local addresses that node ports answer on; empty means every one, loopback included.
    pub node_port_addresses: Vec<IpNet>,
    /// Shows ports outside the network namespace k3s lives in (rootless); `None` where that is the host's.
    pub host_ports: Option<Arc<dyn HostPorts>>,
}

/// Opens ports on the real host and relays them into the network namespace k3s lives in.
#[async_trait]
pub trait HostPorts: Send + Sync + 'static {
    /// Listens on `listen` on the host (an unspecified address means all of them) and relays what arrives to
    /// `target`, which is reachable from k3s's network namespace. Opening what is open with the same target is no
    /// error.
    async fn open(&self, protocol: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<()>;

    /// The mark (one bit) on connections made in the name of a client outside; `None` where none are.
    fn client_mark(&self) -> Option<u32> {
        None
    }

    /// Said once answers to connections of that mark are delivered here.
    fn client_addresses_come_back(&self) {}

    /// Stops listening. Closing what is not open is no error.
    async fn close(&self, protocol: Protocol, listen: SocketAddr) -> io::Result<()>;
}
