//! Host-local address management: one file per leased address.
//!
//! A lease is a file named by its address. It is written beside its place and then linked into it, which fails if the
//! address is taken and never shows half a lease, whenever the process dies. There is no sync to disk: after a power
//! loss no pod is left that holds an address, so a damaged file is as good as none.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use ipnet::IpNet;
use k3s_cri::{PodRef, PortMapping};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Whose address it is and which ports of the host lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) pod: PodRef,
    #[serde(default)]
    pub(crate) ports: Vec<PortMapping>,
}

/// All leases of the node, in memory and on disk.
pub(crate) struct Leases {
    directory: PathBuf,
    by_address: BTreeMap<IpAddr, Lease>,
}

/// Holds the address that was leased last, so that a released one rests as long as possible.
const LAST: &str = "last_reserved_ip.0";
/// A lease being written.
const DRAFT: &str = ".lease";

impl Leases {
    /// Reads what is there; makes the directory if need be.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let failed = |doing| move |source| Error::Lease { doing, path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed("make"))?;
        let mut by_address = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed("list"))? {
            let path = entry.map_err(failed("list"))?.path();
            let Some(address) = path.file_name().and_then(|name| name.to_str()?.parse::<IpAddr>().ok()) else {
                continue;
            };
            let bytes = fs::read(&path).map_err(|source| Error::Lease { doing: "read", path: path.clone(), source })?;
            match serde_json::from_slice(&bytes) {
                Ok(lease) => {
                    by_address.insert(address, lease);
                }
                Err(error) => {
                    tracing::warn!(%address, %error, "removing a damaged address lease");
                    remove(&path)?;
                }
            }
        }
        Ok(Self { directory: directory.to_owned(), by_address })
    }

    /// Every lease by its address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Lease)> {
        self.by_address.iter().map(|(address, lease)| (*address, lease))
    }

    /// The address of a sandbox.
    pub(crate) fn of(&self, sandbox_id: &str) -> Option<IpAddr> {
        self.iter().find(|(_, lease)| lease.pod.sandbox_id == sandbox_id).map(|(address, _)| address)
    }

    /// Leases an address of `subnet`: the one the sandbox has, or the next free one after the last that was given out.
    pub(crate) fn acquire(&mut self, subnet: IpNet, lease: Lease) -> Result<IpAddr, Error> {
        if let Some(address) = self.of(&lease.pod.sandbox_id) {
            return Ok(address);
        }
        let (first, last) = pool(subnet)?;
        let after = fs::read_to_string(self.directory.join(LAST))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(number)
            .filter(|n| (first..last).contains(n))
            .map_or(first, |n| n + 1);
        for candidate in (after..=last).chain(first..after) {
            let address = address(subnet, candidate);
            if !self.by_address.contains_key(&address) && self.write(address, &lease)? {
                self.by_address.insert(address, lease);
                return Ok(address);
            }
        }
        Err(Error::Exhausted { subnet, leased: self.by_address.len() })
    }

    /// `false` if somebody else's file is in the address's place.
    fn write(&self, address: IpAddr, lease: &Lease) -> Result<bool, Error> {
        let path = self.directory.join(address.to_string());
        let draft = self.directory.join(DRAFT);
        let failed = |source| Error::Lease { doing: "write", path: path.clone(), source };
        fs::write(&draft, serde_json::to_vec(lease).map_err(|error| failed(error.into()))?).map_err(failed)?;
        match fs::hard_link(&draft, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(failed(source)),
        }
        remove(&draft)?;
        fs::write(self.directory.join(LAST), address.to_string()).map_err(failed)?;
        Ok(true)
    }

    /// Gives back whatever a sandbox has; its lease if it had one.
    pub(crate) fn release(&mut self, sandbox_id: &str) -> Result<Option<Lease>, Error> {
        let Some(address) = self.of(sandbox_id) else { return Ok(None) };
        remove(&self.directory.join(address.to_string()))?;
        Ok(self.by_address.remove(&address))
    }
}

/// Removes every lease and their directory.
pub(crate) fn remove_all(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Lease { doing: "remove", path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Lease { doing: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The gateway of a subnet: its first address.
pub(crate) fn gateway(subnet: IpNet) -> IpAddr {
    address(subnet, number(subnet.network()) + 1)
}

/// First and last address, as numbers, that pods may have: all but the network's, the gateway's and the broadcast
/// address.
fn pool(subnet: IpNet) -> Result<(u128, u128), Error> {
    let first = number(subnet.network()) + 2;
    let last = number(subnet.broadcast()).saturating_sub(1);
    if first > last { Err(Error::SubnetTooSmall { subnet }) } else { Ok((first, last)) }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The inverse of [`number`] in a subnet's family.
fn address(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        // Numbers of an IPv4 subnet come from 32-bit addresses.
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(sandbox_id: &str) -> Lease {
        let text = |s: &str| s.to_owned();
        Lease {
            pod: PodRef { sandbox_id: text(sandbox_id), namespace: text("default"), name: text("web"), uid: text("u") },
            ports: Vec::new(),
        }
    }

    fn subnet() -> IpNet {
        "10.42.3.0/29".parse().expect("a CIDR")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_same_sandbox_keeps_its_address() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut leases = Leases::open(dir.path()).expect("opens");
        assert_eq!(leases.acquire(subnet(), lease("a")).expect("leases"), ip("10.42.3.2"));
        assert_eq!(leases.acquire(subnet(), lease("a")).expect("leases"), ip("10.42.3.2"));
        let mut again = Leases::open(dir.path()).expect("opens");
        assert_eq!(again.acquire(subnet(), lease("a")).expect("leases"), ip("10.42.3.2"));
    }

    #[test]
    fn a_released_address_rests_until_the_others_had_their_turn() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut leases = Leases::open(dir.path()).expect("opens");
        leases.acquire(subnet(), lease("a")).expect("leases");
        leases.release("a").expect("releases");
        let mut leases = Leases::open(dir.path()).expect("opens");
        for expected in ["10.42.3.3", "10.42.3.4", "10.42.3.5", "10.42.3.6", "10.42.3.2"] {
            assert_eq!(leases.acquire(subnet(), lease(expected)).expect("leases"), ip(expected));
        }
        assert!(matches!(leases.acquire(subnet(), lease("z")), Err(Error::Exhausted { leased: 5, .. })));
    }

    #[test]
    fn an_address_taken_by_another_process_is_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut one = Leases::open(dir.path()).expect("opens");
        let mut other = Leases::open(dir.path()).expect("opens");
        assert_eq!(one.acquire(subnet(), lease("a")).expect("leases"), ip("10.42.3.2"));
        fs::remove_file(dir.path().join(LAST)).expect("removes");
        assert_eq!(other.acquire(subnet(), lease("b")).expect("leases"), ip("10.42.3.3"));
    }

    #[test]
    fn a_damaged_lease_is_free_again() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("10.42.3.2"), b"").expect("writes");
        let mut leases = Leases::open(dir.path()).expect("opens");
        assert_eq!(leases.acquire(subnet(), lease("a")).expect("leases"), ip("10.42.3.2"));
    }

    #[test]
    fn a_subnet_without_room_for_pods_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut leases = Leases::open(dir.path()).expect("opens");
        let tiny = "10.42.3.0/31".parse().expect("a CIDR");
        assert!(matches!(leases.acquire(tiny, lease("a")), Err(Error::SubnetTooSmall { .. })));
    }
}
