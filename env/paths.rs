//! Every path of a data directory.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// The folder that holds a cluster's state: `/var/lib/rancher/k3s`, or `~/.rancher/k3s` when rootless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// A path of the data directory.
macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl DataDir {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf {
                self.0.join($path)
            })*
        }
    };
}

paths! {
    /// What belongs to the server.
    server = "server";
    /// SQLite's file.
    state_db = "server/db/state.db";
    /// The datastore's socket for etcd's clients.
    kine_socket = "server/kine.sock";
    /// Certificates and keys of the server.
    server_tls = "server/tls";
    /// The key with which `--secrets-encryption` encrypts.
    encryption_config = "server/cred/encryption-config.json";
    /// The token with which nodes and servers join.
    token = "server/token";
    /// Manifests that the server deploys.
    manifests = "server/manifests";
    /// What belongs to the node.
    agent = "agent";
    /// Image archives to import.
    images = "agent/images";
    /// Images and snapshots; the name is that of k3s, whose runtime is containerd.
    containerd = "agent/containerd";
    /// Pod volumes.
    kubelet = "agent/kubelet";
    /// Address leases of pods.
    cni = "agent/cni";
    /// State of the rootless launcher.
    rootless = "rootless";
}

/// Folders with secrets in them, and their modes as k3s has them. Components make the others when they need them.
const FOLDERS: &[(&str, u32)] =
    &[("", 0o700), ("server", 0o700), ("server/cred", 0o700), ("server/tls", 0o700), ("server/manifests", 0o700)];

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

    /// Makes the folders that must be closed to others before anything is written into them. Folders that are there
    /// get the mode, but the data directory itself, which may be a mount of the administrator's.
    ///
    /// # Errors
    /// Any of the file system's, with the path.
    pub fn create(&self) -> std::io::Result<()> {
        for (folder, mode) in FOLDERS {
            let path = self.0.join(folder);
            let context = |error: std::io::Error| {
                std::io::Error::new(error.kind(), format!("cannot make folder {}: {error}", path.display()))
            };
            DirBuilder::new().recursive(true).mode(*mode).create(&path).map_err(context)?;
            if !folder.is_empty() {
                fs::set_permissions(&path, Permissions::from_mode(*mode)).map_err(context)?;
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_k3s() {
        let root = DataDir::new(None, false, None).unwrap();
        assert_eq!(root.state_db(), Path::new("/var/lib/rancher/k3s/server/db/state.db"));
        assert_eq!(root.token(), Path::new("/var/lib/rancher/k3s/server/token"));
        let user = DataDir::new(None, true, Some(Path::new("/home/edge"))).unwrap();
        assert_eq!(user.images(), Path::new("/home/edge/.rancher/k3s/agent/images"));
        let named = DataDir::new(Some(Path::new("/srv/k3s")), true, None).unwrap();
        assert_eq!(named.server_tls(), Path::new("/srv/k3s/server/tls"));
        assert!(matches!(DataDir::new(None, true, None), Err(Error::NoHome)));
    }

    #[test]
    fn folders_with_secrets_are_closed_to_others_however_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(Some(&dir.path().join("new/k3s")), false, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        data.create().unwrap();
        fs::set_permissions(data.server_tls(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(data.root(), Permissions::from_mode(0o755)).unwrap();
        data.create().unwrap();
        assert_eq!(mode(&data.server()), 0o700);
        assert_eq!(mode(&data.server_tls()), 0o700);
        assert_eq!(mode(&data.manifests()), 0o700);
        assert_eq!(mode(data.root()), 0o755);
    }
}
