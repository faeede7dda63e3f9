//! Addresses inside the cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use crate::flag::types;
use crate::{Error, Values};

/// Networks of pods and services, and the cluster's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNetwork {
    pub cluster_cidr: IpNet,
    pub service_cidr: IpNet,
    pub node_ports: RangeInclusive<u16>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
}

impl ClusterNetwork {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let cluster_cidr = network(values, "cluster-cidr", Ipv4Addr::new(10, 42, 0, 0))?;
        let service_cidr = network(values, "service-cidr", Ipv4Addr::new(10, 43, 0, 0))?;
        if cluster_cidr.contains(&service_cidr.network()) || service_cidr.contains(&cluster_cidr.network()) {
            let detail = format!("it overlaps with the network of pods, {cluster_cidr}");
            return Err(match values.string("service-cidr") {
                Some(_) => values.bad("service-cidr", detail),
                None => values.bad("cluster-cidr", format!("it overlaps with the network of services, {service_cidr}")),
            });
        }
        let cluster_dns = match values.parse_all("cluster-dns", types::address)?[..] {
            [] => service_cidr.hosts().nth(9).ok_or_else(|| values.bad("service-cidr", "it is too small"))?,
            [address] => address,
            _ => return Err(values.refused("cluster-dns", "the DNS service has one address; give one")),
        };
        if !service_cidr.contains(&cluster_dns) {
            return Err(values.bad("cluster-dns", format!("{cluster_dns} is not in service-cidr {service_cidr}")));
        }
        if values.string("flannel-backend").as_deref() == Some("none") {
            return Err(values.refused("flannel-backend", "a pod network of someone else's can't be used"));
        }
        Ok(Self {
            cluster_cidr,
            service_cidr,
            node_ports: values.parse("service-node-port-range", types::port_range)?.unwrap_or(30000..=32767),
            cluster_dns,
            cluster_domain: values.string("cluster-domain").unwrap_or_else(|| "cluster.local".to_owned()),
        })
    }
}

/// The one IPv4 network that there may be.
fn network(values: &Values, name: &str, default: Ipv4Addr) -> Result<IpNet, Error> {
    match values.parse_all(name, types::network)?[..] {
        [] => Ok(Ipv4Net::new_assert(default, 16).into()),
        [net @ IpNet::V4(_)] => Ok(net),
        [IpNet::V6(_)] => Err(values.refused(name, "pods and services have IPv4 addresses; give an IPv4 network")),
        _ => Err(values.refused(name, "there is one network of IPv4 addresses; give one, and no IPv6 network")),
    }
}
