//! What the runtime asks of the network when it makes and removes a sandbox.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, PortMapping};

/// Whose network it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What a pod got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// First is the pod's primary address.
    pub ips: Vec<IpAddr>,
}

/// Attaches pods to the cluster network (CNI ADD, DEL and garbage collection).
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the network namespace at `netns` (a path that `setns` accepts) its interface, addresses and routes.
    /// Repeating it for the same sandbox gives the same attachment.
    async fn add(&self, pod: &PodRef, netns: &Path, ports: &[PortMapping]) -> Result<Attachment, Error>;

    /// Takes everything back. Succeeds if there is nothing (any more); `netns` is `None` when it is gone already.
    async fn del(&self, pod: &PodRef, netns: Option<PathBuf>) -> Result<(), Error>;

    /// Takes back what belongs to any sandbox but these.
    async fn gc(&self, alive: &[String]) -> Result<(), Error>;

    /// `Err` with the reason while pods can't be attached yet (no pod CIDR, …): the node is not ready.
    async fn ready(&self) -> Result<(), Error>;
}
