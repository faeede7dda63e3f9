//! Shows node ports and host ports on the real host, where k3s lives in a network namespace of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use k3s_cri::Protocol;
use tokio::sync::watch;

use super::host_port::HostPort;
use super::port::ServicePort;
use crate::HostPorts;

/// Where what arrives at a port of the host goes.
pub(crate) type Relays = BTreeMap<(Protocol, SocketAddr), SocketAddr>;

/// What is to be shown: node ports by way of the node's address, host ports straight at the pod.
pub(crate) fn relays(services: &[ServicePort], host_ports: &[HostPort], node_ip: Ipv4Addr) -> Relays {
    let listen = |ip, port| SocketAddr::V4(SocketAddrV4::new(ip, port));
    let node_ports = services.iter().filter_map(|service| {
        let port = service.node_port?;
        Some(((service.protocol, listen(Ipv4Addr::UNSPECIFIED, port)), listen(node_ip, port)))
    });
    let host_ports =
        host_ports.iter().map(|port| ((port.protocol, listen(port.host_ip, port.port)), port.target.into()));
    // SCTP has no relay; its node ports answer inside the namespace.
    node_ports.chain(host_ports).filter(|((protocol, _), _)| *protocol != Protocol::Sctp).collect()
}

/// Opens and closes ports as `wanted` changes, until its sender is gone. What fails is tried again.
pub(crate) async fn run(host: Arc<dyn HostPorts>, mut wanted: watch::Receiver<Relays>) {
    let mut open = Relays::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let now = wanted.borrow_and_update().clone();
        let complete = step(&*host, &mut open, &now).await;
        let changed = tokio::select! {
            changed = wanted.changed() => changed,
            () = tokio::time::sleep(pause), if !complete => Ok(()),
        };
        if changed.is_err() {
            return;
        }
        pause = if complete { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether everything is as wanted now.
async fn step(host: &dyn HostPorts, open: &mut Relays, wanted: &Relays) -> bool {
    let mut complete = true;
    let stale: Vec<_> = open.keys().filter(|key| wanted.get(*key) != open.get(*key)).copied().collect();
    for (protocol, listen) in stale {
        match host.close(protocol, listen).await {
            Ok(()) => {
                open.remove(&(protocol, listen));
            }
            Err(error) => {
                complete = false;
                tracing::warn!(?protocol, %listen, %error, "cannot close a port of the host; it is tried again");
            }
        }
    }
    for (&(protocol, listen), &target) in wanted {
        if open.contains_key(&(protocol, listen)) {
            continue;
        }
        match host.open(protocol, listen, target).await {
            Ok(()) => {
                open.insert((protocol, listen), target);
                tracing::info!(?protocol, %listen, %target, "port opened on the host");
            }
            Err(error) => {
                complete = false;
                tracing::warn!(?protocol, %listen, %target, %error, "cannot open a port on the host; it is tried again");
            }
        }
    }
    complete
}

#[cfg(test)]
mod tests {
    use std::io;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;

    /// Says what it is asked to do, and refuses the first attempt to open a port below 1024.
    struct Host {
        said: mpsc::UnboundedSender<String>,
        refusals: Mutex<u32>,
    }

    #[async_trait]
    impl HostPorts for Host {
        async fn open(&self, _: Protocol, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
            let refused = listen.port() < 1024 && std::mem::take(&mut *self.refusals.lock()) > 0;
            let _ = self.said.send(format!("open {listen} {target} {}", !refused));
            if refused { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        }

        async fn close(&self, _: Protocol, listen: SocketAddr) -> io::Result<()> {
            let _ = self.said.send(format!("close {listen}"));
            Ok(())
        }
    }

    fn one(listen: &str, target: &str) -> Relays {
        let address = |text: &str| text.parse().expect("an address");
        Relays::from([((Protocol::Tcp, address(listen)), address(target))])
    }

    #[tokio::test]
    async fn ports_follow_what_is_wanted_and_refused_ones_are_tried_again() {
        let (said, mut heard) = mpsc::unbounded_channel();
        let (wanted, receiver) = watch::channel(one("0.0.0.0:80", "10.0.2.100:80"));
        let task = tokio::spawn(run(Arc::new(Host { said, refusals: Mutex::new(1) }), receiver));
        assert_eq!(heard.recv().await.as_deref(), Some("open 0.0.0.0:80 10.0.2.100:80 false"));
        assert_eq!(heard.recv().await.as_deref(), Some("open 0.0.0.0:80 10.0.2.100:80 true"));
        wanted.send_replace(one("0.0.0.0:80", "10.0.2.100:81"));
        assert_eq!(heard.recv().await.as_deref(), Some("close 0.0.0.0:80"));
        assert_eq!(heard.recv().await.as_deref(), Some("open 0.0.0.0:80 10.0.2.100:81 true"));
        wanted.send_replace(Relays::new());
        assert_eq!(heard.recv().await.as_deref(), Some("close 0.0.0.0:80"));
        drop(wanted);
        task.await.expect("ends by itself");
    }
}
