//! Images as volumes (KEP-4639).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k3s_cri::{ContainerConfig, Error, PodSandboxConfig};

use crate::runtime::Runtime;

/// What of an image a container's volume is made of.
#[derive(Debug, Clone)]
pub(crate) struct ImageVolume {
    /// Diff ids, which must stay as long as the container.
    pub layers: Vec<String>,
    /// Directories laid over one another, the topmost first, relative to the store.
    pub lower: Vec<PathBuf>,
}

impl Runtime {
    /// The images that a container mounts, by id.
    pub(crate) fn image_volumes(
        &self,
        pod: &PodSandboxConfig,
        container: &str,
        config: &ContainerConfig,
    ) -> Result<HashMap<String, ImageVolume>, Error> {
        let mut volumes = HashMap::new();
        for mount in config.mounts.iter().filter_map(|mount| mount.image.as_ref()) {
            if volumes.contains_key(&mount.image_id) {
                continue;
            }
            if !pod.runtime_handler.is_empty() {
                let detail = format!("handler {:?} can't mount images as volumes", pod.runtime_handler);
                return Err(Error::Unimplemented { detail });
            }
            let image = self
                .images
                .get(&mount.image_id)
                .ok_or_else(|| Error::NotFound { what: format!("image {} of a volume", mount.image_id) })?;
            if image.builtin {
                let detail = format!("image {} is made of the k3s binary and can't be a volume", mount.image_id);
                return Err(Error::InvalidArgument { detail });
            }
            let copy = Path::new("containers").join(container).join(format!("image-{}", volumes.len()));
            let lower = self.snapshots.view(&image.diff_ids, &copy).map_err(|error| Error::Internal {
                doing: format!("prepare image {} as a volume", mount.image_id),
                detail: error.to_string(),
            })?;
            volumes.insert(mount.image_id.clone(), ImageVolume { layers: image.diff_ids.clone(), lower });
        }
        Ok(volumes)
    }
}
