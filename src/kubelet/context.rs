//! What everything in a kubelet shares.

use std::sync::Arc;

use k3s_client::{Informer, Informers};
use k3s_cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::{Pod, Service};

use crate::config::Config;
use crate::events::Recorder;
use crate::node::facts::Facts;
use crate::pod::user_namespace::Ranges;

/// The parts of a kubelet that its pods, its node status and its server work with.
pub(crate) struct Context {
    pub config: Config,
    pub facts: Facts,
    pub client: kube::Client,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    /// Pods bound to this node.
    pub pods: Informer<Pod>,
    /// Services of the cluster, for the environment of containers.
    pub services: Informer<Service>,
    pub recorder: Recorder,
    /// Ids for pods with user namespaces of their own.
    pub id_ranges: Ranges,
    /// Keeps the watches alive as long as the kubelet.
    pub _informers: Informers,
}
