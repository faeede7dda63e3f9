//! Ports of the host that lead to a pod.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use k3s_cri::{PortMapping, Protocol};

use crate::Error;
use crate::pod::lease::Leases;

/// One `hostPort` of a pod on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) protocol: Protocol,
    /// The host's address it answers on; unspecified means all of them.
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) target: SocketAddrV4,
}

/// Every host port of the pods that hold a lease.
pub(crate) fn host_ports(leases: &Leases) -> Vec<HostPort> {
    let mut ports = Vec::new();
    for (address, lease) in leases.iter() {
        let IpAddr::V4(address) = address else { continue };
        for mapping in lease.ports.iter().filter(|mapping| mapping.host_port != 0) {
            // Leases hold only mappings that `check` let through.
            let Ok(host_ip) = host_ip(mapping) else { continue };
            let target = SocketAddrV4::new(address, mapping.container_port);
            ports.push(HostPort { protocol: mapping.protocol, host_ip, port: mapping.host_port, target });
        }
    }
    ports
}

/// Whether a sandbox can have these host ports: their addresses are addresses, and nobody else has them.
pub(crate) fn check(leases: &Leases, sandbox_id: &str, wanted: &[PortMapping]) -> Result<(), Error> {
    for want in wanted.iter().filter(|want| want.host_port != 0) {
        let address = host_ip(want)?;
        let others = leases.iter().filter(|(_, lease)| lease.pod.sandbox_id != sandbox_id);
        for (_, lease) in others {
            let taken = lease.ports.iter().any(|have| {
                have.host_port == want.host_port
                    && have.protocol == want.protocol
                    && host_ip(have)
                        .is_ok_and(|other| other == address || other.is_unspecified() || address.is_unspecified())
            });
            if taken {
                let holder = format!("{}/{}", lease.pod.namespace, lease.pod.name);
                return Err(Error::HostPortTaken { address: address.into(), port: want.host_port, holder });
            }
        }
    }
    Ok(())
}

fn host_ip(mapping: &PortMapping) -> Result<Ipv4Addr, Error> {
    match mapping.host_ip.as_str() {
        "" => Ok(Ipv4Addr::UNSPECIFIED),
        text => text.parse().map_err(|_| Error::HostIp { given: text.to_owned() }),
    }
}
