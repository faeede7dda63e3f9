//! What makes this machine a node: network, runtime and kubelet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k3s_addons::coredns;
use k3s_client::Informers;
use k3s_cri::PodNetwork;
use k3s_env::{NodeTaint, Server};
use k3s_kubelet::{Kubelet, server as kubelet_server};
use k3s_network::{Network, NetworkConfig};
use k3s_rootless::CgroupInfo;
use k3s_runtime::{BuiltinImage, Cgroup, Registries, Runtime, Snapshotter};
use k8s_openapi::api::core::v1::{Node as NodeObject, Taint};
use kube::Api;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control_plane::{ControlPlane, certificates, key};
use super::host::Host;
use super::host_ports::HostPorts;
use super::identity;
use super::reload::Source;

/// How long the kubelet of a known node waits for the network.
const SETTLE: Duration = Duration::from_secs(3);

/// The running node.
pub struct Node {
    runtime: Arc<Runtime>,
    tasks: JoinSet<()>,
}

impl Node {
    /// Starts the node's components; it registers by itself and becomes ready when they are.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(
        config: &Server,
        host: &Host,
        plane: &ControlPlane,
        cancel: CancellationToken,
    ) -> anyhow::Result<Self> {
        let network = start_network(config, host, plane, cancel.clone())?;
        let runtime = Runtime::open(k3s_runtime::Options {
            registries: registries(&config.node)?,
            snapshotter: match config.node.snapshotter {
                k3s_env::Snapshotter::Overlayfs => Snapshotter::Overlayfs,
                k3s_env::Snapshotter::FuseOverlayfs => Snapshotter::FuseOverlayfs,
                k3s_env::Snapshotter::Native => Snapshotter::Native,
            },
            root: config.data_dir.containerd(),
            state: "/run/k3s/runtime".into(),
            images_dir: config.data_dir.images(),
            network: network.clone(),
            self_exe: "/proc/self/exe".into(),
            rootless: config.rootless,
            builtin_images: vec![BuiltinImage {
                reference: coredns::IMAGE.to_owned(),
                entrypoint: vec!["/bin/k3s".to_owned(), "coredns".to_owned()],
                cmd: Vec::new(),
                user: String::new(),
            }],
            cgroup: pods_cgroup(host),
        })
        .await?;
        let importing = runtime.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Tells in the log what could not be imported; the others are.
            importing.import_images().await;
        });
        let (served, socket, stop) =
            (runtime.clone(), config.data_dir.containerd().join("containerd.sock"), cancel.clone());
        tasks.spawn(async move {
            // Pods run without it.
            if let Err(error) = k3s_runtime::serve_cri(served, &socket, stop.cancelled_owned()).await {
                tracing::error!(socket = %socket.display(), %error, "cannot serve CRI");
            }
        });
        let client = plane.client(identity::kubelet(&host.node_name));
        settle(&client, &host.node_name, &*network).await;
        let kubelet_config = kubelet_config(config, host);
        let port = kubelet_config.port;
        let kubelet = Kubelet::new(kubelet_config, client, runtime.clone(), runtime.clone())?;

        let tls = kubelet_server::tls_config(
            certificates(&plane.tls.serving_kubelet.certificate)?,
            key(&plane.tls.serving_kubelet.key)?,
            certificates(plane.tls.client_ca.certificate())?,
        )?;
        let mut tls = Arc::unwrap_or_clone(tls);
        tls.cert_resolver = plane.serving_kubelet.clone();
        let listener = TcpListener::bind((host.node_ip, port))
            .await
            .with_context(|| format!("cannot listen on {}:{port} for the kubelet", host.node_ip))?;
        let admitted = kubelet_server::Admitted::default();
        tasks.spawn(kubelet_server::serve(listener, Arc::new(tls), kubelet.clone(), admitted, cancel.clone()));
        tasks.spawn(async move { kubelet.run(cancel).await });
        Ok(Self { runtime, tasks })
    }

    /// `registries.yaml`, if there is a name for it: pulls that begin after it was read anew go by it.
    pub fn registries_source(&self, node: &k3s_env::Node) -> Option<Source> {
        node.private_registry.as_ref()?;
        let (node, runtime) = (node.clone(), Arc::clone(&self.runtime));
        Some(Source::new("registries.yaml", move || {
            runtime.set_registries(registries(&node)?);
            Ok(())
        }))
    }

    /// Waits for the components, which were cancelled. Pods keep running.
    pub async fn stop(mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.runtime.close().await;
    }
}

fn registries(node: &k3s_env::Node) -> anyhow::Result<Registries> {
    let mut registries =
        node.private_registry.as_deref().map_or_else(|| Ok(Registries::default()), Registries::read)?;
    registries.no_default_endpoint = node.disable_default_registry_endpoint;
    Ok(registries)
}

/// A node that has its pod network from before is ready as soon as that is up again. Until then the kubelet waits: what
/// it says first would be "not ready", and the node's pods would drop out of their services.
async fn settle(client: &kube::Client, node_name: &str, network: &dyn PodNetwork) {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let known = nodes.get_opt(node_name).await.ok().flatten();
    if known.and_then(|node| node.spec?.pod_cidr).is_none() {
        return;
    }
    let up = async {
        while network.ready().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(SETTLE, up).await.is_err() {
        tracing::warn!("the pod network is not up yet; the node will not be ready until it is");
    }
}

/// Where limits of pods are enforced: in the launcher's namespaces below their root, else below the host's.
fn pods_cgroup(host: &Host) -> Cgroup {
    let launched = host.rootless.as_ref().map(|host| &host.info().cgroup);
    match launched {
        Some(CgroupInfo::Delegated { controllers }) => {
            tracing::info!(controllers = controllers.join(","), "pods have cgroups of their own");
            Cgroup::Delegated("/sys/fs/cgroup".into())
        }
        Some(CgroupInfo::Unavailable { reason }) => Cgroup::Unavailable(reason.clone()),
        None => match k3s_systemd::system_subtree() {
            Ok(root) => Cgroup::Delegated(root),
            Err(reason) => Cgroup::Unavailable(reason.to_string()),
        },
    }
}

fn start_network(
    config: &Server,
    host: &Host,
    plane: &ControlPlane,
    cancel: CancellationToken,
) -> anyhow::Result<Arc<Network>> {
    let published = host.published.clone();
    let host_ports = published.map(|ports| Arc::new(HostPorts::new(ports)) as Arc<dyn k3s_network::HostPorts>);
    let settings = NetworkConfig {
        node_name: host.node_name.clone(),
        data_dir: config.data_dir.root().to_owned(),
        cluster_cidr: vec![config.network.cluster_cidr],
        service_cidr: vec![config.network.service_cidr],
        service_proxy: !config.disable_kube_proxy,
        node_ips: host.node_ips.clone(),
        node_port_addresses: Vec::new(),
        host_ports,
    };
    let informers = Informers::new(plane.client(identity::network()));
    Network::start(settings, informers, cancel).context("cannot start the network")
}

fn kubelet_config(config: &Server, host: &Host) -> k3s_kubelet::Config {
    let node = &config.node;
    let mut kubelet = k3s_kubelet::Config::new(&host.node_name);
    kubelet.node_ips = host.node_ips.clone();
    kubelet.external_ips = node.external_ips.clone();
    kubelet.labels = node.labels.iter().cloned().collect();
    kubelet.taints = node.taints.iter().cloned().map(taint).collect();
    kubelet.cluster_dns = vec![config.network.cluster_dns];
    kubelet.cluster_domain = config.network.cluster_domain.clone();
    kubelet.root_dir = config.data_dir.kubelet();
    kubelet.pod_log_dir = PathBuf::from("/var/log/pods");
    kubelet.version = crate::version::KUBERNETES.to_owned();
    if let Some(path) = &node.resolv_conf {
        kubelet.resolv_conf = path.clone();
    }
    let given = &node.kubelet;
    kubelet.max_pods = given.max_pods.unwrap_or(kubelet.max_pods);
    kubelet.seccomp_default = given.seccomp_default.unwrap_or(kubelet.seccomp_default);
    kubelet.container_log_max_size = given.container_log_max_size.unwrap_or(kubelet.container_log_max_size);
    kubelet.container_log_max_files = given.container_log_max_files.unwrap_or(kubelet.container_log_max_files);
    kubelet
}

fn taint(taint: NodeTaint) -> Taint {
    Taint { key: taint.key, value: taint.value, effect: taint.effect, time_added: None }
}
