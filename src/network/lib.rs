//! All that touches netlink and nftables: pods' interfaces and addresses, and services.
//!
//! [`Network`] works in whichever network namespace the process lives in: the host's as root, the launcher's in a user
//! namespace. It needs no program of the host and no C library. It keeps
//!
//! - a bridge `cni0` with a veth pair per pod ([`PodNetwork`](k3s_cri::PodNetwork): CNI's ADD, DEL and GC), with an
//!   address leased from the node's pod CIDR, one file per lease in `agent/cni` of the data directory;
//! - one nftables table `ip k3s` with services, host ports and masquerading (`nft` speaks to the kernel).
//!
//! Everything may be killed at any point and started again: what is wanted is compared with what is there.

#![forbid(unsafe_code)]

mod config;
mod error;
mod link;
mod network;
mod nft;
mod pod;
mod service;
mod sysctl;

pub use config::{HostPorts, NetworkConfig};
pub use error::Error;
pub use network::Network;

/// A hash that never changes between versions and hosts, for short names made of long ones (FNV-1a, 32 bit).
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
