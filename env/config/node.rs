//! The node that a server or an agent runs.

use std::net::IpAddr;
use std::path::PathBuf;

use super::KubeletArguments;
use crate::flag::types::{self, NodeTaint, Snapshotter};
use crate::{Error, Values};

/// What a node is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Nothing: the host's name.
    pub name: Option<String>,
    /// Whether an id is added to the name.
    pub with_id: bool,
    pub labels: Vec<(String, String)>,
    pub taints: Vec<NodeTaint>,
    /// The primary one first; none: the address of the default route.
    pub ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub resolv_conf: Option<PathBuf>,
    /// Whether the node refuses to run where the kernel's settings are not those that the kubelet wants.
    pub protect_kernel_defaults: bool,
    pub kubelet: KubeletArguments,
    pub snapshotter: Snapshotter,
    /// `registries.yaml`.
    pub private_registry: Option<PathBuf>,
    /// A registry that has mirrors is not asked itself.
    pub disable_default_registry_endpoint: bool,
}

impl Node {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        Ok(Self {
            name: values.parse("node-name", types::node_name)?,
            with_id: values.switch("with-node-id")?,
            labels: values.parse_all("node-label", types::pair)?,
            taints: values.parse_all("node-taint", types::taint)?,
            ips: values.parse_all("node-ip", types::address)?,
            external_ips: values.parse_all("node-external-ip", types::address)?,
            resolv_conf: values.string("resolv-conf").map(PathBuf::from),
            protect_kernel_defaults: values.switch("protect-kernel-defaults")?,
            kubelet: KubeletArguments::from_values(values)?,
            snapshotter: values.parse("snapshotter", types::snapshotter)?.unwrap_or_default(),
            private_registry: values.string("private-registry").map(PathBuf::from),
            disable_default_registry_endpoint: values.switch("disable-default-registry-endpoint")?,
        })
    }
}
