//! What the tests need: a network namespace per test, pods in namespaces of their own, and an API to watch.

pub mod api;
pub mod space;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k3s_client::Informers;
use k3s_cri::{PodNetwork, PodRef};
use k3s_network::{HostPorts, Network, NetworkConfig};
use tokio_util::sync::CancellationToken;

use api::Api;

/// Starts a network on the API, with the node's pod CIDR in place, and waits until it is ready.
pub async fn start(
    api: &Api,
    data_dir: &Path,
    cancel: &CancellationToken,
    host: Option<Arc<dyn HostPorts>>,
) -> Arc<Network> {
    start_with(config(data_dir, host), api, cancel).await
}

/// Starts a network that leaves services to somebody else.
pub async fn start_without_proxy(api: &Api, data_dir: &Path, cancel: &CancellationToken) -> Arc<Network> {
    start_with(NetworkConfig { service_proxy: false, ..config(data_dir, None) }, api, cancel).await
}

async fn start_with(config: NetworkConfig, api: &Api, cancel: &CancellationToken) -> Arc<Network> {
    let network = Network::start(config, Informers::new(api.client()), cancel.clone()).expect("starts");
    until("the network to be ready", async || network.ready().await.is_ok()).await;
    network
}

fn config(data_dir: &Path, host_ports: Option<Arc<dyn HostPorts>>) -> NetworkConfig {
    let cidr = |text: &str| vec![text.parse().expect("a CIDR")];
    NetworkConfig {
        node_name: "here".into(),
        data_dir: data_dir.into(),
        cluster_cidr: cidr("10.42.0.0/16"),
        service_cidr: cidr("10.43.0.0/16"),
        service_proxy: true,
        node_ips: vec![space::NODE_IP.parse().expect("an address")],
        node_port_addresses: Vec::new(),
        host_ports,
    }
}

pub fn pod(name: &str) -> PodRef {
    let text = |text: &str| text.to_owned();
    PodRef {
        sandbox_id: format!("{name}0123456789abcdef"),
        namespace: text("default"),
        name: text(name),
        uid: text("u"),
    }
}

/// Waits until the condition holds: what is waited for is the kernel's state, which announces nothing.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The output of a program of the host, run in the test's network namespace.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().expect("runs");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
