//! Which device nodes a container sees. They are bind mounts of the node's: a user namespace can't make nodes.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use k3s_cri::ContainerConfig;

/// What every container has.
const DEFAULT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Directories of /dev that containers have of their own.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "fd", "hugepages"];

/// Path on the node, path in the container, and of `r`, `w`, `m`.
pub(crate) fn list(config: &ContainerConfig) -> Vec<(PathBuf, PathBuf, String)> {
    let rw = || "rw".to_owned();
    let mut devices: Vec<_> =
        DEFAULT.map(|name| (Path::new("/dev").join(name), Path::new("/dev").join(name), rw())).into();
    if config.security.privileged {
        let mut found = Vec::new();
        walk(Path::new("/dev"), &mut found);
        devices.extend(found.into_iter().map(|path| (path.clone(), path, rw())));
    }
    for device in &config.devices {
        devices.push((device.host_path.clone(), device.container_path.clone(), device.permissions.clone()));
    }
    // The last word on a path counts.
    let mut seen = std::collections::HashSet::new();
    devices.reverse();
    devices.retain(|(_, container, _)| seen.insert(container.clone()));
    devices.reverse();
    devices
}

/// Everything below /dev that privileged containers see; what can't be read is not seen.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !OWN.iter().any(|own| *own == name) {
                walk(&path, found);
            }
        } else if (kind.is_char_device() || kind.is_block_device()) && name != "console" && name != "ptmx" {
            found.push(path);
        }
    }
}
