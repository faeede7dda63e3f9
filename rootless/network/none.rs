//! No way out: the namespace has its loopback device only, with the node's address on it.

use super::{NetworkDriver, NetworkError, StartingDriver};
use crate::config::Config;
use crate::host::NetworkInfo;

/// Nothing runs. The init gives the address to the loopback device when it sets the namespaces up.
#[derive(Debug)]
pub(super) struct NoDriver {
    network: NetworkInfo,
}

impl NoDriver {
    pub fn new(config: &Config) -> Self {
        let (address, cidr) = (config.cidr.tap(), config.cidr);
        let mtu = config.mtu;
        Self { network: NetworkInfo { device: "lo".into(), address, gateway: None, dns: None, cidr, mtu, ipv6: false } }
    }
}

impl NetworkDriver for NoDriver {
    fn name(&self) -> &'static str {
        "none"
    }

    fn network(&self) -> NetworkInfo {
        self.network.clone()
    }

    fn start(&self, _init: i32) -> Result<Option<StartingDriver>, NetworkError> {
        Ok(None)
    }
}
