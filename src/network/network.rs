//! The network of one node: its parts, and the task that sets them up and keeps them.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k3s_client::Informers;
use k8s_openapi::api::core::v1::Node;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::Links;
use crate::pod::attach::Bridge;
use crate::pod::lease::Leases;
use crate::{Error, NetworkConfig, sysctl};

/// Pods' interfaces and the services they reach, on one node.
pub struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) links: Links,
    pub(crate) leases: Mutex<Leases>,
    /// Attaching, detaching and collecting happen one after the other: each looks before it acts.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// What pods are attached to, or why there is nothing yet.
    state: RwLock<Result<Arc<Bridge>, String>>,
    tasks: TaskTracker,
}

impl Network {
    /// Starts setting up the network and keeping services, until `cancel`; what is set up stays. Needs a tokio runtime
    /// in the network namespace that pods' interfaces lead to.
    ///
    /// # Errors
    /// If the leases can't be read or a route netlink socket can't be opened. What goes wrong later is logged, tried
    /// again and told by [`ready`](k3s_cri::PodNetwork::ready).
    pub fn start(config: NetworkConfig, informers: Informers, cancel: CancellationToken) -> Result<Arc<Self>, Error> {
        let leases = Leases::open(&config.data_dir.join("agent/cni"))?;
        let links =
            Links::open().map_err(|source| Error::Link { doing: "open a route netlink socket".into(), source })?;
        let network = Arc::new(Self {
            config,
            links,
            leases: Mutex::new(leases),
            turn: tokio::sync::Mutex::default(),
            state: RwLock::new(Err("waiting for the Node's pod CIDR".into())),
            tasks: TaskTracker::new(),
        });
        let running = network.clone();
        network.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = running.run(&informers) => {}
            }
        });
        network.tasks.close();
        Ok(network)
    }

    /// Waits until nothing runs any more after `cancel`.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// What pods are attached to.
    pub(crate) fn bridge(&self) -> Result<Arc<Bridge>, Error> {
        self.state.read().clone().map_err(|reason| Error::NotReady { reason })
    }

    async fn run(&self, informers: &Informers) {
        let subnet = self.pod_cidr(informers).await;
        let bridge =
            self.persist("set up the pod bridge", || Bridge::ensure(&self.links, subnet, self.services())).await;
        sysctl::prepare(&bridge.link.name);
        tracing::info!(pod_cidr = %subnet, mtu = bridge.link.mtu, "pod network is up");
        *self.state.write() = Ok(Arc::new(bridge));
    }

    /// Waits for the pod CIDR that the controller gives the node.
    async fn pod_cidr(&self, informers: &Informers) -> IpNet {
        let nodes = informers.of::<Node>();
        let mut changes = nodes.subscribe();
        nodes.synced().await;
        loop {
            if let Some(cidr) = nodes.get(None, &self.config.node_name).as_deref().and_then(ipv4_pod_cidr) {
                return cidr;
            }
            if changes.next().await.is_none() {
                // The informers ended: so does this task, by its cancellation.
                std::future::pending::<()>().await;
            }
        }
    }

    fn services(&self) -> Option<IpNet> {
        self.config.service_cidr.iter().copied().find(|cidr| matches!(cidr, IpNet::V4(_)))
    }

    /// Tries until it works, with pauses from 100 ms to 5 s.
    async fn persist<T, F: Future<Output = Result<T, Error>>>(&self, doing: &str, attempt: impl Fn() -> F) -> T {
        let mut pause = Duration::from_millis(100);
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => {
                    tracing::warn!(%error, "cannot {doing}; it is tried again");
                    *self.state.write() = Err(error.to_string());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

fn ipv4_pod_cidr(node: &Node) -> Option<IpNet> {
    let spec = node.spec.as_ref()?;
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|cidr| cidr.parse::<IpNet>().ok()).find(|cidr| matches!(cidr, IpNet::V4(_)))
}
