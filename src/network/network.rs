//! The network of one node: its parts, and the task that sets them up and keeps them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ipnet::{IpNet, Ipv4Net};
use k3s_client::{Changes, Informers};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::Links;
use crate::nft::Socket;
use crate::pod::attach::{self, Bridge};
use crate::pod::lease::{self, Leases};
use crate::service::client_address;
use crate::service::host_port::host_ports;
use crate::service::proxy::{self, Proxy};
use crate::service::relay::{self, Relays};
use crate::service::rules::Surroundings;
use crate::{Error, NetworkConfig, sysctl};

/// Who asked for a sync waits for its outcome.
type Waiting = oneshot::Sender<Result<(), String>>;

/// Pods' interfaces and the services they reach, on one node.
pub struct Network {
    config: NetworkConfig,
    pub(crate) links: Links,
    pub(crate) leases: Mutex<Leases>,
    /// Attaching, detaching and collecting happen one after the other: each looks before it acts.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// What pods are attached to, or why there is nothing yet.
    state: RwLock<Result<Arc<Bridge>, String>>,
    syncs: mpsc::UnboundedSender<Waiting>,
    tasks: TaskTracker,
}

/// Where leases are, in the data directory.
const LEASES: &str = "agent/cni";
/// Changes that come within this time of a sync share the next one.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);
/// After a sync that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Network {
    /// Starts setting up the network and keeping services, until `cancel`; what is set up stays. Needs a tokio runtime
    /// in the network namespace that pods' interfaces lead to.
    ///
    /// # Errors
    /// If the leases can't be read, a netlink socket can't be opened, or the configuration has no IPv4 network. What
    /// goes wrong later is logged, tried again and told by [`ready`](k3s_cri::PodNetwork::ready).
    pub fn start(config: NetworkConfig, informers: Informers, cancel: CancellationToken) -> Result<Arc<Self>, Error> {
        let leases = Leases::open(&config.data_dir.join(LEASES))?;
        let links =
            Links::open().map_err(|source| Error::Link { doing: "open a route netlink socket".into(), source })?;
        let socket = Socket::open()?;
        let cluster_cidr = ipv4_net(&config.cluster_cidr).ok_or(Error::NoIpv4 { what: "the cluster CIDR" })?;
        let (syncs, requests) = mpsc::unbounded_channel();
        let network = Arc::new(Self {
            config,
            links,
            leases: Mutex::new(leases),
            turn: tokio::sync::Mutex::default(),
            state: RwLock::new(Err("waiting for the Node's pod CIDR".into())),
            syncs,
            tasks: TaskTracker::new(),
        });
        let running = network.clone();
        network.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = running.run(&informers, cluster_cidr, socket, requests) => {}
            }
        });
        network.tasks.close();
        Ok(network)
    }

    /// Waits until nothing runs any more after `cancel`.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// Takes everything back that any run with this data directory has set up: the table, the bridge, all pods'
    /// interfaces and leases. For removing k3s from a host; a mere stop leaves pods their network.
    pub async fn cleanup(data_dir: &Path) -> Result<(), Error> {
        proxy::remove_table().await?;
        client_address::remove().await?;
        let links =
            Links::open().map_err(|source| Error::Link { doing: "open a route netlink socket".into(), source })?;
        attach::remove_ports_but(&links, &[]).await?;
        links.remove(attach::BRIDGE).await?;
        lease::remove_all(&data_dir.join(LEASES))
    }

    /// What pods are attached to.
    pub(crate) fn bridge(&self) -> Result<Arc<Bridge>, Error> {
        self.state.read().clone().map_err(|reason| Error::NotReady { reason })
    }

    /// Waits until the rules speak for the leases of now.
    pub(crate) async fn synced(&self) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        let stopped = || Error::NotReady { reason: "the network is stopping".into() };
        self.syncs.send(sender).map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?.map_err(|reason| Error::NotReady { reason })
    }

    /// Has the rules speak for the leases of now, soon.
    pub(crate) fn sync_soon(&self) {
        // Without an end that waits; if the task has ended, the next start syncs everything.
        let _ = self.syncs.send(oneshot::channel().0);
    }

    async fn run(
        &self,
        informers: &Informers,
        cluster_cidr: Ipv4Net,
        socket: Socket,
        requests: mpsc::UnboundedReceiver<Waiting>,
    ) {
        let pod_cidr = self.pod_cidr(informers).await;
        let service_cidr = ipv4_net(&self.config.service_cidr).map(IpNet::V4);
        let bridge = self.bridge_that_stands(pod_cidr.into(), service_cidr).await;
        sysctl::prepare(&bridge.link.name);
        self.bring_client_addresses_back(pod_cidr).await;
        let around = Surroundings {
            cluster_cidr,
            pod_cidr,
            node_port_addresses: self.config.node_port_addresses.iter().filter_map(ipv4).collect(),
            bridged_traffic_is_seen: sysctl::bridged_traffic_is_seen(),
        };
        tracing::info!(%pod_cidr, mtu = bridge.link.mtu, "pod bridge is up");
        let proxy = Proxy::new(self.config.node_name.clone(), around, socket);
        let (relays, wanted) = watch::channel(Relays::new());
        let relaying = async {
            match &self.config.host_ports {
                Some(host) => relay::run(host.clone(), wanted).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(relaying, self.keep_services(informers, Arc::new(bridge), proxy, relays, requests));
    }

    /// For relays that keep their clients' addresses. Without, servers see an address of this node.
    async fn bring_client_addresses_back(&self, pod_cidr: Ipv4Net) {
        let Some(host) = &self.config.host_ports else { return };
        let Some(mark) = host.client_mark() else { return };
        match client_address::prepare(&self.links, mark, pod_cidr).await {
            Ok(()) => host.client_addresses_come_back(),
            Err(error) => tracing::warn!(%error, "servers see an address of this node instead of their clients'"),
        }
    }

    /// Syncs at once when something changes, but not more often than [`SYNC_INTERVAL`].
    async fn keep_services(
        &self,
        informers: &Informers,
        bridge: Arc<Bridge>,
        mut proxy: Proxy,
        relays: watch::Sender<Relays>,
        mut requests: mpsc::UnboundedReceiver<Waiting>,
    ) {
        let (services, slices) = (informers.of::<Service>(), informers.of::<EndpointSlice>());
        let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
        services.synced().await;
        slices.synced().await;
        let node_ip = self.config.node_ips.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let mut waiting = Vec::new();
        loop {
            // What is announced already is in the caches; what comes from now on is for the next time.
            while let Some(Some(_)) = service_changes.next().now_or_never() {}
            while let Some(Some(_)) = slice_changes.next().now_or_never() {}
            while let Ok(request) = requests.try_recv() {
                waiting.push(request);
            }
            let started = Instant::now();
            let host_ports = host_ports(&self.leases.lock());
            let services = if self.config.service_proxy { services.list() } else { Vec::new() };
            let outcome = proxy.sync(&services, &slices.list(), &host_ports).await;
            let (said, next) = match &outcome {
                Ok(ports) => {
                    let wanted = relay::relays(ports, &host_ports, node_ip.unwrap_or(Ipv4Addr::LOCALHOST));
                    relays.send_if_modified(|now| std::mem::replace(now, wanted.clone()) != wanted);
                    self.become_ready(&bridge);
                    (Ok(()), started + SYNC_INTERVAL)
                }
                Err(error) => {
                    tracing::error!(%error, "cannot sync services; it is tried again");
                    (Err(error.to_string()), started + RETRY_INTERVAL)
                }
            };
            for waiting in waiting.drain(..) {
                // Nobody may wait any more.
                let _ = waiting.send(said.clone());
            }
            tokio::time::sleep_until(next).await;
            if outcome.is_ok() {
                waiting.extend(change(&mut service_changes, &mut slice_changes, &mut requests).await);
            }
        }
    }

    fn become_ready(&self, bridge: &Arc<Bridge>) {
        let mut state = self.state.write();
        if state.is_err() {
            tracing::info!(pod_cidr = %bridge.subnet, "network is ready");
            *state = Ok(bridge.clone());
        }
    }

    /// Waits for the pod CIDR that the controller gives the node.
    async fn pod_cidr(&self, informers: &Informers) -> Ipv4Net {
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

    /// Tries until it works, with pauses from 100 ms to 5 s.
    async fn bridge_that_stands(&self, pod_cidr: IpNet, service_cidr: Option<IpNet>) -> Bridge {
        let mut pause = Duration::from_millis(100);
        loop {
            match Bridge::ensure(&self.links, pod_cidr, service_cidr).await {
                Ok(bridge) => return bridge,
                Err(error) => {
                    tracing::error!(%error, "cannot set up the pod bridge; it is tried again");
                    *self.state.write() = Err(error.to_string());
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Waits for a change or for somebody who wants a sync.
async fn change(
    services: &mut Changes<Service>,
    slices: &mut Changes<EndpointSlice>,
    requests: &mut mpsc::UnboundedReceiver<Waiting>,
) -> Option<Waiting> {
    let changed = tokio::select! {
        change = services.next() => change.map(drop),
        change = slices.next() => change.map(drop),
        // The sender lives as long as the network.
        request = requests.recv() => return request,
    };
    if changed.is_none() {
        // The informers ended: so does this task, by its cancellation.
        std::future::pending::<()>().await;
    }
    None
}

fn ipv4_pod_cidr(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).find_map(|cidr| cidr.parse().ok())
}

fn ipv4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

fn ipv4_net(nets: &[IpNet]) -> Option<Ipv4Net> {
    nets.iter().find_map(ipv4)
}
