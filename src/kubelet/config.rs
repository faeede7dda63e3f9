//! What a kubelet is told when it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;

use crate::image_gc::ImageGcThresholds;

/// Settings of a kubelet. [`Config::new`] fills in Kubernetes' and k3s's defaults; the rest is plain data to overwrite.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Value of the label `kubernetes.io/hostname` and of the Hostname address.
    pub hostname: String,
    /// Addresses of the node, the primary one first. At most one per family is used for host-network pods.
    pub node_ips: Vec<IpAddr>,
    /// Addresses under which the node is known outside of the cluster.
    pub external_ips: Vec<IpAddr>,
    /// Labels the node is registered with, besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// Annotations the node is registered with, e.g. `k3s.io/node-args`.
    pub annotations: BTreeMap<String, String>,
    /// Taints the node is registered with; an existing node keeps its own.
    pub taints: Vec<Taint>,
    /// Addresses of the cluster's DNS service, for `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Where volumes and per-container files live, e.g. `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Where container logs live, e.g. `/var/log/pods`.
    pub pod_log_dir: PathBuf,
    /// How many pods this node takes.
    pub max_pods: u32,
    /// Version of the node as `kubectl get nodes` shows it, e.g. `v1.36.2+k3s1`.
    pub version: String,
    /// Port that the API server reaches the kubelet on.
    pub port: u16,
    /// The resolv.conf that pods inherit from.
    pub resolv_conf: PathBuf,
    /// Pods without a seccomp profile get `RuntimeDefault` instead of `Unconfined`.
    pub seccomp_default: bool,
    /// Size in bytes at which a container's log is rotated.
    pub container_log_max_size: u64,
    /// How many files a container's log has at most, the current one included.
    pub container_log_max_files: usize,
    /// How full the disk is when unused images are removed.
    pub image_gc: ImageGcThresholds,
}

impl Config {
    /// The defaults for a node of that name.
    pub fn new(node_name: impl Into<String>) -> Self {
        let node_name = node_name.into();
        Self {
            hostname: node_name.clone(),
            node_name,
            node_ips: Vec::new(),
            external_ips: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            root_dir: "/var/lib/kubelet".into(),
            pod_log_dir: "/var/log/pods".into(),
            max_pods: 110,
            version: "v1.36.2+k3s1".into(),
            port: 10250,
            resolv_conf: "/etc/resolv.conf".into(),
            seccomp_default: false,
            container_log_max_size: 10 * 1024 * 1024,
            container_log_max_files: 5,
            image_gc: ImageGcThresholds::default(),
        }
    }

    /// Folder of a pod's volumes and files.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Folder of a pod's logs.
    pub(crate) fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
