//! Which runtime is meant.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k3s_env::DataDir;
use serde::Deserialize;

use crate::error::Error;

/// Where cri-tools has its configuration.
pub const CONFIG: &str = "/etc/crictl.yaml";

/// `crictl.yaml`. What stands in it and means nothing here (`pull-image-on-create`, …) is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct File {
    pub runtime_endpoint: String,
    pub image_endpoint: String,
    /// Seconds.
    pub timeout: u64,
}

impl File {
    /// The file that was named, or the usual one if it is there.
    pub fn read(named: Option<&Path>) -> Result<Self, Error> {
        let path = named.unwrap_or(Path::new(CONFIG));
        let failed = |detail: String| Error::File { path: path.to_owned(), detail };
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => Ok(Self::default()),
            Ok(text) => serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string())),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// How long a connection may take.
    pub fn timeout(&self) -> Option<Duration> {
        (self.timeout > 0).then(|| Duration::from_secs(self.timeout))
    }
}

/// The socket of an endpoint: `unix:///run/x.sock`, or its path alone.
pub fn socket(endpoint: &str) -> Result<PathBuf, Error> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.starts_with('/') {
        let message = format!("{endpoint:?} is no endpoint of a runtime; give unix:///PATH");
        return Err(Error::Usage(message));
    }
    Ok(path.into())
}

/// The socket of the cluster that runs here: of `K3S_DATA_DIR`, else of root's k3s if it can be reached, else of the
/// user's. An ordinary user need not enter the launcher's namespaces: the data directory is the same inside.
pub fn of_running_cluster(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Error> {
    let home = variable("HOME").map(PathBuf::from);
    let folders: Vec<DataDir> = match variable("K3S_DATA_DIR").filter(|named| !named.is_empty()) {
        Some(named) => DataDir::new(Some(Path::new(&named)), false, None).into_iter().collect(),
        None => [false, true].into_iter().filter_map(|user| DataDir::new(None, user, home.as_deref()).ok()).collect(),
    };
    let tried: Vec<PathBuf> = folders.iter().map(|folder| folder.containerd().join("containerd.sock")).collect();
    let answers = |socket: &&PathBuf| UnixStream::connect(socket).is_ok();
    tried.iter().find(answers).cloned().ok_or(Error::NoCluster { tried })
}

/// A file of the node, such as a log, as this process reaches it: a rootless node has its `/var/log` in its data
/// directory, which is three folders above the socket.
pub fn file_of_node(socket: &Path, path: &Path) -> PathBuf {
    let data_dir = socket.ancestors().nth(3);
    let inside = path.strip_prefix("/var/log").ok().zip(data_dir).map(|(rest, dir)| dir.join("logs").join(rest));
    inside.filter(|inside| inside.exists()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_answers_is_found_and_others_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".rancher/k3s/agent/containerd");
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("containerd.sock");
        let variable =
            |name: &str| (name == "K3S_DATA_DIR").then(|| home.path().join(".rancher/k3s").display().to_string());
        // A file that nobody listens at is what a crash leaves.
        std::fs::write(&socket, "").unwrap();
        let error = of_running_cluster(variable).unwrap_err().to_string();
        assert!(error.contains(&socket.display().to_string()) && error.contains("--runtime-endpoint"), "{error}");
        std::fs::remove_file(&socket).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(of_running_cluster(variable).unwrap(), socket);
    }

    #[test]
    fn endpoints_are_sockets() {
        assert_eq!(socket("unix:///run/x.sock").unwrap(), Path::new("/run/x.sock"));
        assert_eq!(socket("/run/x.sock").unwrap(), Path::new("/run/x.sock"));
        assert!(socket("tcp://localhost:1").is_err());
    }

    #[test]
    fn the_configuration_file_is_that_of_cri_tools() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crictl.yaml");
        std::fs::write(&path, "runtime-endpoint: unix:///run/a.sock\ntimeout: 5\ndebug: false\n").unwrap();
        let file = File::read(Some(&path)).unwrap();
        assert_eq!(
            (file.runtime_endpoint.as_str(), file.timeout()),
            ("unix:///run/a.sock", Some(Duration::from_secs(5)))
        );
        assert!(File::read(Some(&dir.path().join("absent"))).is_err());
    }
}
