//! A pod's interface: a veth pair between the pod's network namespace and the node's bridge.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;

use super::lease::gateway;
use crate::Error;
use crate::link::{self, Link, Links};

/// The bridge all pods of the node are ports of.
pub(crate) const BRIDGE: &str = "cni0";
/// Name of a pod's interface inside the pod.
const POD_INTERFACE: &str = "eth0";
/// What the names of the bridge's ports begin with.
const PORT_PREFIX: &str = "veth";

/// What pods are attached to.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub(crate) link: Link,
    /// The node's pod CIDR.
    pub(crate) subnet: IpNet,
}

impl Bridge {
    /// Makes the bridge with the subnet's first address, and leads the service network to it: node and pods reach
    /// cluster IPs (which are rewritten before they would go out) on a host without a default route, too.
    pub(crate) async fn ensure(links: &Links, subnet: IpNet, services: Option<IpNet>) -> Result<Self, Error> {
        let mtu = links.default_route_mtu().await?;
        let address = at(gateway(subnet), subnet);
        let mut link = links.ensure_bridge(BRIDGE, address, mtu).await?;
        link.mtu = mtu;
        if let Some(services) = services {
            links.route(services, &link, None).await?;
        }
        Ok(Self { link, subnet })
    }

    /// Gives the namespace its interface with this address. Repeating it changes nothing.
    pub(crate) async fn attach(
        &self,
        links: &Links,
        sandbox_id: &str,
        netns: &Path,
        address: IpAddr,
    ) -> Result<(), Error> {
        let namespace = link::namespace(netns)?;
        let entered = |source| Error::Namespace { path: netns.to_owned(), source };
        let inside = Links::open_in(&namespace).await.map_err(entered)?;
        let port = port_name(sandbox_id);
        match (inside.find(POD_INTERFACE).await?, links.find(&port).await?) {
            (Some(_), Some(_)) => links.bring_up_port(&port).await?,
            // Half a pair can't be ours (the ends go together): the port belongs to a namespace that this sandbox had
            // before, or the interface to nobody.
            (stale, port_there) => {
                if port_there.is_some() {
                    links.remove(&port).await?;
                }
                if stale.is_some() {
                    inside.remove(POD_INTERFACE).await?;
                }
                links.add_veth(&port, &self.link, POD_INTERFACE, namespace.as_fd(), address).await?;
            }
        }
        if let Some(loopback) = inside.find("lo").await? {
            inside.up(&loopback).await?;
        }
        let Some(interface) = inside.find(POD_INTERFACE).await? else {
            let doing = format!("find {POD_INTERFACE} in {}", netns.display());
            return Err(Error::Link { doing, source: std::io::ErrorKind::NotFound.into() });
        };
        inside.set_address(&interface, at(address, self.subnet)).await?;
        inside.up(&interface).await?;
        inside.route(everything(address), &interface, Some(gateway(self.subnet))).await?;
        // What is sent before is lost, and a lost first packet costs its sender a second.
        inside.operational(POD_INTERFACE).await?;
        links.operational(&port).await?;
        links.operational(BRIDGE).await
    }
}

/// Removes a sandbox's interface, both ends of it.
pub(crate) async fn detach(links: &Links, sandbox_id: &str) -> Result<(), Error> {
    links.remove(&port_name(sandbox_id)).await
}

/// Removes every port of the bridge that no lease speaks for.
pub(crate) async fn remove_ports_but(links: &Links, sandbox_ids: &[String]) -> Result<(), Error> {
    let Some(bridge) = links.find(BRIDGE).await? else { return Ok(()) };
    let wanted: Vec<_> = sandbox_ids.iter().map(|id| port_name(id)).collect();
    for port in links.ports(&bridge).await? {
        if port.name.starts_with(PORT_PREFIX) && !wanted.contains(&port.name) {
            tracing::info!(port = port.name, "removing the interface of a pod that is gone");
            links.remove(&port.name).await?;
        }
    }
    Ok(())
}

/// A name for the node's end of the pair that follows from the sandbox alone (an interface has at most 15 letters):
/// nothing has to be remembered to find it again.
fn port_name(sandbox_id: &str) -> String {
    format!("{PORT_PREFIX}{:08x}", crate::fnv1a(sandbox_id.as_bytes()))
}

/// The address with the prefix length of the subnet.
fn at(address: IpAddr, subnet: IpNet) -> IpNet {
    // The prefix length comes from a subnet of the same family, so it can't be too long.
    IpNet::new(address, subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(address))
}

/// The default route of the address's family.
fn everything(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => ipnet::Ipv4Net::default().into(),
        IpAddr::V6(_) => ipnet::Ipv6Net::default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_name_fits_an_interface_and_stays_the_same() {
        let name = port_name("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
        assert_eq!(name, port_name("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
        assert!(name.len() <= 15, "{name}");
        assert_ne!(name, port_name("another"));
    }
}
