//! A runtime and an API that hold everything in memory, to watch the kubelet at work.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod api;
pub mod runtime;

use std::sync::Arc;
use std::time::Duration;

use k3s_kubelet::{Config, Kubelet};
use tokio_util::sync::CancellationToken;

/// A kubelet at work between the two.
pub struct Node {
    pub kubelet: Arc<Kubelet>,
    pub cancel: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Node {
    pub fn start(dir: &std::path::Path, api: &Arc<api::Api>, runtime: &Arc<runtime::Runtime>) -> Self {
        let mut config = Config::new("node");
        config.root_dir = dir.join("kubelet");
        config.pod_log_dir = dir.join("logs");
        config.node_ips = vec!["192.0.2.1".parse().unwrap()];
        let kubelet = Kubelet::new(config, api.client(), runtime.clone(), runtime.clone()).unwrap();
        let cancel = CancellationToken::new();
        let running = tokio::spawn({
            let (kubelet, cancel) = (kubelet.clone(), cancel.clone());
            async move { kubelet.run(cancel).await }
        });
        Self { kubelet, cancel, running }
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.running).await.expect("the kubelet stops").unwrap();
    }
}
