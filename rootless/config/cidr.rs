//! The network between the namespace and its driver.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The IPv4 network between namespace and driver. Its addresses are slirp4netns's: the gateway
/// (which is the host, where host loopback is allowed) is number 2, DNS 3, the tap device 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(Ipv4Net);

/// A CIDR that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CidrError {
    #[error("not an IPv4 network such as 10.41.0.0/16")]
    Syntax,
    #[error("host bits are set; the network is {network}")]
    HostBits { network: Ipv4Net },
    #[error("the prefix length must be from 1 to 25, so that the tap device's address (number 100) fits")]
    PrefixLength,
}

impl Cidr {
    /// The tap device's own address.
    pub fn tap(&self) -> Ipv4Addr {
        self.number(100)
    }

    /// The default route, and the host's 127.0.0.1 where that is allowed.
    pub fn gateway(&self) -> Ipv4Addr {
        self.number(2)
    }

    /// The driver's DNS forwarder.
    pub fn dns(&self) -> Ipv4Addr {
        self.number(3)
    }

    /// The network itself.
    pub fn network(&self) -> Ipv4Net {
        self.0
    }

    fn number(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.network()) + host)
    }
}

impl Default for Cidr {
    fn default() -> Self {
        Self(Ipv4Net::new_assert(Ipv4Addr::new(10, 41, 0, 0), 16))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(s: &str) -> Result<Self, CidrError> {
        let net: Ipv4Net = s.parse().map_err(|_| CidrError::Syntax)?;
        if net.addr() != net.network() {
            return Err(CidrError::HostBits { network: net.trunc() });
        }
        if !(1..=25).contains(&net.prefix_len()) {
            return Err(CidrError::PrefixLength);
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(s: String) -> Result<Self, CidrError> {
        s.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
