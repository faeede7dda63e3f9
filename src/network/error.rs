//! What can go wrong.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// Why the network could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a route netlink request.
    #[error("cannot {doing}: {source}")]
    Link { doing: String, source: io::Error },
    /// A network namespace could not be entered.
    #[error("cannot enter network namespace {path}: {source}", path = path.display())]
    Namespace { path: PathBuf, source: io::Error },
    /// A file of the address leases could not be read or written.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Lease { doing: &'static str, path: PathBuf, source: io::Error },
    /// Every address of the node's pod CIDR is leased.
    #[error("no free address in {subnet}: {leased} are leased")]
    Exhausted { subnet: IpNet, leased: usize },
    /// The node's pod CIDR can't carry pods.
    #[error("pod CIDR {subnet} has no room for a gateway and pods")]
    SubnetTooSmall { subnet: IpNet },
    /// A node address or CIDR of the wrong family, or none of the needed one.
    #[error("{what} has no IPv4 entry; IPv6-only clusters are not supported yet")]
    NoIpv4 { what: &'static str },
    /// The host port is somebody else's.
    #[error("host port {port} of {address} is already used by pod {holder}")]
    HostPortTaken { address: IpAddr, port: u16, holder: String },
    /// A pod's port mapping names something that is no address.
    #[error("hostIP {given:?} is not an IPv4 address")]
    HostIp { given: String },
    /// The nftables transaction could not be sent, or was refused as a whole.
    #[error("cannot {doing}: {source}")]
    Netfilter { doing: String, source: io::Error },
    /// The kernel refused one object of an nftables transaction.
    #[error("nftables refused {object}: {source}{detail}")]
    Refused { object: String, source: io::Error, detail: String },
    /// The network is not set up yet.
    #[error("network is not ready: {reason}")]
    NotReady { reason: String },
}

impl From<Error> for k3s_cri::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::NotReady { .. } | Error::HostPortTaken { .. } => {
                k3s_cri::Error::FailedPrecondition { detail: error.to_string() }
            }
            Error::HostIp { .. } => k3s_cri::Error::InvalidArgument { detail: error.to_string() },
            other => k3s_cri::Error::Internal { doing: "pod network".into(), detail: other.to_string() },
        }
    }
}
