//! Writing images into an archive that Docker, containerd and skopeo read: an OCI layout with Docker's manifest.json.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;

use oci_spec::image::ImageManifest;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::import::{CONTAINERD_NAME, REF_NAME};
use super::store::ImageStore;
use super::{ImageError, Reference};

impl ImageStore {
    /// Writes the images of these references, each with the name it was asked for by.
    pub(crate) fn export(&self, names: &[Reference], to: impl Write) -> Result<(), ImageError> {
        let mut archive = Builder::new(to);
        let mut written = HashSet::new();
        let (mut entries, mut docker) = (Vec::new(), Vec::new());
        add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for name in names {
            let missing = || ImageError::NotFound { reference: name.to_string() };
            let image = self.get(&name.to_string()).ok_or_else(missing)?;
            // The manifest for this machine: others of the index are not here.
            let digest = image.manifest_digest.as_ref().ok_or_else(|| {
                ImageError::document(name.to_string(), "is made of the k3s binary and can't be exported")
            })?;
            let bytes = self.read_blob(digest)?;
            let manifest: ImageManifest =
                serde_json::from_slice(&bytes).map_err(|error| ImageError::document(digest, error))?;
            let layers: Vec<String> = manifest.layers().iter().map(|layer| layer.digest().to_string()).collect();
            for blob in [digest, &image.id].into_iter().chain(&layers) {
                if written.insert(blob.clone()) {
                    self.add_blob(&mut archive, blob)?;
                }
            }
            entries.push(entry(&manifest, digest, bytes.len(), name));
            docker.push(json!({
                "Config": path(&image.id),
                "RepoTags": name.tagged().into_iter().collect::<Vec<_>>(),
                "Layers": layers.iter().map(|layer| path(layer)).collect::<Vec<_>>(),
            }));
        }
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
        add(&mut archive, "index.json", index.to_string().as_bytes())?;
        add(&mut archive, "manifest.json", serde_json::Value::from(docker).to_string().as_bytes())?;
        archive.into_inner().and_then(|mut to| to.flush()).map_err(ImageError::io("write archive"))
    }

    fn add_blob(&self, archive: &mut Builder<impl Write>, digest: &str) -> Result<(), ImageError> {
        let place = self.blob(digest);
        let reading = || ImageError::io(format!("read {}", place.display()));
        let mut file = File::open(&place).map_err(reading())?;
        let mut header = header(file.metadata().map_err(reading())?.len());
        archive.append_data(&mut header, path(digest), &mut file).map_err(ImageError::io("write archive"))
    }
}

fn entry(manifest: &ImageManifest, digest: &str, size: usize, name: &Reference) -> serde_json::Value {
    let media_type = manifest
        .media_type()
        .as_ref()
        .map_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned(), |media_type| media_type.to_string());
    json!({
        "mediaType": media_type,
        "digest": digest,
        "size": size,
        "annotations": {CONTAINERD_NAME: name.to_string(), REF_NAME: name.tag_or_digest()},
    })
}

fn path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn add(archive: &mut Builder<impl Write>, name: &str, content: &[u8]) -> Result<(), ImageError> {
    let mut header = header(content.len() as u64);
    archive.append_data(&mut header, name, content).map_err(ImageError::io("write archive"))
}
