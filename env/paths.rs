//! Every path of a data directory.

use std::path::{Path, PathBuf};

use crate::Error;

/// The folder that holds a cluster's state: `/var/lib/rancher/k3s`, or `~/.rancher/k3s` when rootless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The folder a user named, or the default one.
    ///
    /// # Errors
    /// [`Error::NoHome`] if it would be below a home that is not known.
    pub fn new(named: Option<&Path>, rootless: bool, home: Option<&Path>) -> Result<Self, Error> {
        match (named, rootless) {
            (Some(path), _) => Ok(Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))),
            (None, false) => Ok(Self("/var/lib/rancher/k3s".into())),
            (None, true) => Ok(Self(home.ok_or(Error::NoHome)?.join(".rancher/k3s"))),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// SQLite's file.
    pub fn state_db(&self) -> PathBuf {
        self.0.join("server/db/state.db")
    }

    /// Certificates and keys of the server.
    pub fn server_tls(&self) -> PathBuf {
        self.0.join("server/tls")
    }

    /// The token with which nodes and servers join.
    pub fn token(&self) -> PathBuf {
        self.0.join("server/token")
    }

    /// Manifests that the server deploys.
    pub fn manifests(&self) -> PathBuf {
        self.0.join("server/manifests")
    }

    /// What belongs to the node.
    pub fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// Image tars to import.
    pub fn images(&self) -> PathBuf {
        self.0.join("agent/images")
    }

    /// Images and snapshots; the name is that of k3s, whose runtime is containerd.
    pub fn containerd(&self) -> PathBuf {
        self.0.join("agent/containerd")
    }

    /// Pod volumes.
    pub fn kubelet(&self) -> PathBuf {
        self.0.join("agent/kubelet")
    }

    /// Address leases of pods.
    pub fn cni(&self) -> PathBuf {
        self.0.join("agent/cni")
    }

    /// State of the rootless launcher.
    pub fn rootless(&self) -> PathBuf {
        self.0.join("rootless")
    }
}

/// Where the administrator's kubeconfig goes.
///
/// # Errors
/// [`Error::NoHome`] when rootless without a home.
pub fn kubeconfig_path(rootless: bool, home: Option<&Path>) -> Result<PathBuf, Error> {
    if rootless {
        return Ok(home.ok_or(Error::NoHome)?.join(".kube/k3s.yaml"));
    }
    Ok("/etc/rancher/k3s/k3s.yaml".into())
}
