//! Pods' interfaces and addresses: what CNI's ADD, DEL and GC do.

pub(crate) mod attach;
pub(crate) mod lease;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k3s_cri::{Attachment, PodNetwork, PodRef, PortMapping};

use crate::service::host_port;
use crate::{Error, Network};
use lease::Lease;

#[async_trait]
impl PodNetwork for Network {
    async fn add(&self, pod: &PodRef, netns: &Path, ports: &[PortMapping]) -> Result<Attachment, k3s_cri::Error> {
        let bridge = self.bridge()?;
        let _turn = self.turn.lock().await;
        let lease = Lease { pod: pod.clone(), ports: ports.to_vec() };
        let address = {
            let mut leases = self.leases.lock();
            host_port::check(&leases, &pod.sandbox_id, ports)?;
            leases.acquire(bridge.subnet, lease)?
        };
        let started = std::time::Instant::now();
        bridge.attach(&self.links, &pod.sandbox_id, netns, address).await?;
        if has_host_ports(ports) {
            self.synced().await?;
        }
        tracing::debug!(pod = pod.name, namespace = pod.namespace, %address, took = ?started.elapsed(), "attached");
        Ok(Attachment { ips: vec![address] })
    }

    async fn del(&self, pod: &PodRef, _netns: Option<PathBuf>) -> Result<(), k3s_cri::Error> {
        let _turn = self.turn.lock().await;
        self.release(&pod.sandbox_id).await?;
        Ok(())
    }

    async fn gc(&self, alive: &[String]) -> Result<(), k3s_cri::Error> {
        let _turn = self.turn.lock().await;
        let gone: Vec<String> = self
            .leases
            .lock()
            .iter()
            .map(|(_, lease)| lease.pod.sandbox_id.clone())
            .filter(|id| !alive.contains(id))
            .collect();
        for sandbox_id in gone {
            tracing::info!(sandbox_id, "taking back the address of a pod that is gone");
            self.release(&sandbox_id).await?;
        }
        attach::remove_ports_but(&self.links, alive).await?;
        Ok(())
    }

    async fn ready(&self) -> Result<(), k3s_cri::Error> {
        self.bridge()?;
        Ok(())
    }
}

impl Network {
    /// Takes the interface first and the lease last: whatever is interrupted is found again by its lease.
    async fn release(&self, sandbox_id: &str) -> Result<(), Error> {
        attach::detach(&self.links, sandbox_id).await?;
        let released = self.leases.lock().release(sandbox_id)?;
        if released.is_some_and(|lease| has_host_ports(&lease.ports)) {
            self.sync_soon();
        }
        Ok(())
    }
}

fn has_host_ports(ports: &[PortMapping]) -> bool {
    ports.iter().any(|port| port.host_port != 0)
}
