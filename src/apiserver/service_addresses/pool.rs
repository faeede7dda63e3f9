//! Which node ports are taken, and free addresses at random.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use k3s_kine::Revision;
use rand::Rng;
use rand::seq::IteratorRandom;

use super::node_ports;
use crate::registry::{Error, Listing};

/// The node ports of all services.
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    /// By service: the version that was read, and the ports it has.
    services: HashMap<Arc<str>, (Revision, Vec<u16>)>,
    /// Ports of services that have been stored, but that the cache may not have seen yet: the revision of the write.
    stored: BTreeMap<u16, Revision>,
}

impl Ports {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, services: HashMap::new(), stored: BTreeMap::new() }
    }

    /// Takes over what the services have now. Only those that changed are decoded.
    pub fn refresh(&mut self, listing: &Listing) -> Result<(), Error> {
        let mut services = HashMap::with_capacity(listing.entries.len());
        for entry in &listing.entries {
            let known = self.services.remove(entry.key()).filter(|(revision, _)| *revision == entry.revision());
            let ports = match known {
                Some(known) => known,
                None => (entry.revision(), node_ports(&*entry.value()?)),
            };
            services.insert(Arc::clone(entry.key()), ports);
        }
        self.services = services;
        self.stored.retain(|_, revision| *revision > listing.revision);
        Ok(())
    }

    fn is_taken(&self, port: u16) -> bool {
        self.stored.contains_key(&port) || self.services.values().any(|(_, ports)| ports.contains(&port))
    }

    /// Whether a port that somebody asks for can be had; if not, why.
    pub fn check(&self, port: u16) -> Result<(), String> {
        if !self.range.contains(&port) {
            let (start, end) = (self.range.start(), self.range.end());
            return Err(format!("provided port is not in the valid range. The range of valid ports is {start}-{end}"));
        }
        if self.is_taken(port) { Err("provided port is already allocated".to_owned()) } else { Ok(()) }
    }

    /// A free port that is not among `chosen`.
    pub fn any(&self, chosen: &[u16]) -> Option<u16> {
        let mut free = vec![true; self.range.len()];
        let taken = self.services.values().flat_map(|(_, ports)| ports).chain(self.stored.keys()).chain(chosen);
        for port in taken.filter(|port| self.range.contains(port)) {
            free[usize::from(port - self.range.start())] = false;
        }
        let free = self.range.clone().zip(free).filter(|(_, free)| *free).map(|(port, _)| port);
        free.choose(&mut rand::rng())
    }

    /// The service with these ports is stored.
    pub fn keep(&mut self, ports: &[u16], revision: Revision) {
        self.stored.extend(ports.iter().map(|port| (*port, revision)));
    }
}

/// Some address of the range that a host may have.
pub(super) fn random_host(range: &IpNet) -> IpAddr {
    let mut random = rand::rng();
    match range {
        IpNet::V4(range) => {
            let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
            let host = if last - first < 2 { first } else { random.random_range(first + 1..last) };
            IpAddr::V4(Ipv4Addr::from(host))
        }
        IpNet::V6(range) => {
            let (first, last) = (u128::from(range.network()), u128::from(range.broadcast()));
            // Kubernetes gives out at most 2^64 addresses of a range.
            let last = last.min(first + u128::from(u64::MAX));
            let host = if last - first < 2 { first } else { random.random_range(first + 1..last) };
            IpAddr::V6(Ipv6Addr::from(host))
        }
    }
}
