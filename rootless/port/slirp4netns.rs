//! The port driver `slirp4netns`: the network driver itself forwards ports, through its API.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use slirp4netns_sys::{ApiClient, Forward, ForwardId, Proto};

use super::{HostPort, PortDriver, Protocol, Refusal, builtin};

pub(super) struct Slirp4netns {
    api: ApiClient,
    /// What is forwarded now, to be forwarded again when the program has been started anew.
    forwards: Vec<(HostPort, Forward, ForwardId)>,
}

impl Slirp4netns {
    pub fn new(socket: PathBuf) -> Self {
        Self { api: ApiClient::new(socket), forwards: Vec::new() }
    }
}

impl PortDriver for Slirp4netns {
    fn open(&mut self, port: HostPort, inside: Option<SocketAddr>) -> Result<Option<OwnedFd>, Refusal> {
        let (SocketAddr::V4(host), Some(SocketAddr::V4(guest))) = (port.address, inside) else {
            return Err(Refusal::Driver("slirp4netns forwards IPv4 only".into()));
        };
        let forward = Forward {
            proto: match port.protocol {
                Protocol::Tcp => Proto::Tcp,
                Protocol::Udp => Proto::Udp,
            },
            host_addr: *host.ip(),
            host_port: host.port(),
            guest_addr: *guest.ip(),
            guest_port: guest.port(),
        };
        // slirp4netns does not say why it refuses. The kernel does, and the port is free again right after.
        builtin::open(port).map_err(Refusal::Kernel)?;
        let id = self.api.add(&forward).map_err(|e| Refusal::Driver(e.to_string()))?;
        self.forwards.push((port, forward, id));
        Ok(None)
    }

    fn close(&mut self, port: HostPort) -> Result<(), Refusal> {
        let Some(index) = self.forwards.iter().position(|(open, ..)| *open == port) else { return Ok(()) };
        let (.., id) = self.forwards.swap_remove(index);
        self.api.remove(id).map_err(|e| Refusal::Driver(e.to_string()))
    }

    fn network_restarted(&mut self) {
        self.forwards.retain_mut(|(port, forward, id)| match self.api.add(forward) {
            Ok(now) => {
                *id = now;
                true
            }
            Err(error) => {
                let (protocol, address) = (port.protocol, port.address);
                tracing::warn!(%protocol, %address, %error, "a port of the host is lost with the old network driver");
                false
            }
        });
    }
}
