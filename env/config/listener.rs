//! Where the API is served, and what it is called.

use std::net::{IpAddr, Ipv4Addr};

use crate::flag::types;
use crate::{Error, Values};

/// Addresses and ports of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub bind_address: IpAddr,
    pub port: u16,
    /// What members of the cluster reach the server at; nothing: the node's address.
    pub advertise_address: Option<IpAddr>,
    pub advertise_port: u16,
    /// More names and addresses for the certificate.
    pub tls_san: Vec<String>,
}

impl Listener {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let port = values.parse("https-listen-port", types::port)?.unwrap_or(6443);
        Ok(Self {
            bind_address: values.parse("bind-address", types::address)?.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            port,
            advertise_address: values.parse("advertise-address", types::address)?,
            advertise_port: values.parse("advertise-port", types::port)?.unwrap_or(port),
            tls_san: values.list("tls-san"),
        })
    }
}
