//! The image store: `<root>/images` is an OCI image layout, as skopeo and others read it. What `index.json` does not
//! name does not exist; it is replaced in one step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use parking_lot::{Mutex, RwLock};

use super::import::{CONTAINERD_NAME, Found, REF_NAME};
use super::{BuiltinImage, ImageError, Reference, archive};
use crate::id;
use crate::snapshot::{self, Snapshots};

/// An image that containers can be made of.
#[derive(Debug, Clone)]
pub(crate) struct StoredImage {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Fully qualified references.
    pub names: Vec<String>,
    pub manifest_digest: Option<String>,
    /// Bytes of manifest, configuration and layers as stored.
    pub size: u64,
    pub config: ImageConfiguration,
    /// Layers, bottom first.
    pub diff_ids: Vec<String>,
    /// Made of the running binary.
    pub builtin: bool,
}

/// The images on this node.
pub(crate) struct ImageStore {
    directory: PathBuf,
    pub(super) snapshots: Arc<Snapshots>,
    builtin: Vec<Arc<StoredImage>>,
    images: RwLock<Vec<Arc<StoredImage>>>,
    /// Held while `index.json` and what it names change.
    pub(super) changing: Mutex<()>,
}

/// A directory for content on its way into the store; removed when dropped.
pub(super) struct Ingest(PathBuf);

impl Ingest {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl ImageStore {
    /// Opens the store below `root`, making it if there is none.
    pub(crate) fn open(root: &Path, snapshots: Arc<Snapshots>, builtin: &[BuiltinImage]) -> Result<Self, ImageError> {
        let directory = root.join("images");
        let blobs = directory.join("blobs/sha256");
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(ImageError::io(format!("create {}", path.display())))
        };
        make(&blobs)?;
        let ingest = directory.join("ingest");
        snapshot::remove_tree(&ingest).map_err(ImageError::io(format!("remove {}", ingest.display())))?;
        make(&ingest)?;
        let layout = directory.join("oci-layout");
        if !layout.exists() {
            replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let builtin =
            builtin.iter().map(|image| image.store(&snapshots).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let store = Self { directory, snapshots, builtin, images: RwLock::default(), changing: Mutex::default() };
        store.load()?;
        Ok(store)
    }

    pub(super) fn ingest(&self) -> Result<Ingest, ImageError> {
        let path = self.directory.join("ingest").join(id::new());
        fs::create_dir(&path).map_err(ImageError::io(format!("create {}", path.display())))?;
        Ok(Ingest(path))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replacen(':', "/", 1))
    }

    fn index(&self) -> Result<Vec<Descriptor>, ImageError> {
        let path = self.directory.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => {
                let index: ImageIndex = serde_json::from_slice(&bytes)
                    .map_err(|error| ImageError::document(path.display().to_string(), error))?;
                Ok(index.manifests().clone())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(ImageError::Io { doing: format!("read {}", path.display()), source: error }),
        }
    }

    /// Reads the images that the index names. One that can't be read is left out, and may be imported again.
    fn load(&self) -> Result<(), ImageError> {
        let mut by_manifest: BTreeMap<String, StoredImage> = BTreeMap::new();
        for descriptor in self.index()? {
            let digest = descriptor.digest().to_string();
            let name = descriptor.annotations().as_ref().and_then(|all| all.get(CONTAINERD_NAME)).cloned();
            if let Some(image) = by_manifest.get_mut(&digest) {
                image.names.extend(name);
                continue;
            }
            match self.load_image(&digest) {
                Ok(mut image) => {
                    image.names.extend(name);
                    by_manifest.insert(digest, image);
                }
                Err(error) => tracing::error!(%digest, %error, "image is damaged and left out"),
            }
        }
        *self.images.write() = by_manifest.into_values().map(Arc::new).collect();
        Ok(())
    }

    fn load_image(&self, digest: &str) -> Result<StoredImage, ImageError> {
        let read = |digest: &str| fs::read(self.blob(digest)).map_err(ImageError::io(format!("read {digest}")));
        let bytes = read(digest)?;
        let manifest: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| ImageError::document(digest, error))?;
        let id = manifest.config().digest().to_string();
        let config: ImageConfiguration =
            serde_json::from_slice(&read(&id)?).map_err(|error| ImageError::document(&id, error))?;
        let diff_ids = config.rootfs().diff_ids().clone();
        for (diff_id, layer) in diff_ids.iter().zip(manifest.layers()) {
            self.unpack(diff_id, &self.blob(layer.digest().as_ref()))?;
        }
        let layers: u64 = manifest.layers().iter().map(Descriptor::size).sum();
        let size = bytes.len() as u64 + manifest.config().size() + layers;
        Ok(StoredImage {
            id,
            names: Vec::new(),
            manifest_digest: Some(digest.to_owned()),
            size,
            config,
            diff_ids,
            builtin: false,
        })
    }

    /// Unpacks the layer in the file `blob`, unless that is done already.
    pub(super) fn unpack(&self, diff_id: &str, blob: &Path) -> Result<(), ImageError> {
        if self.snapshots.has(diff_id) {
            return Ok(());
        }
        let file = fs::File::open(blob).map_err(ImageError::io(format!("open {}", blob.display())))?;
        self.snapshots
            .unpack(diff_id, archive::decompress(file)?)
            .map_err(|error| ImageError::Layer { layer: diff_id.to_owned(), detail: error.to_string() })
    }

    /// Takes images whose layers are unpacked into the store. A name moves to the newest image of that name.
    pub(super) fn add(&self, found: Vec<Found>) -> Result<(), ImageError> {
        let _changing = self.changing.lock();
        let mut index = self.index()?;
        for image in &found {
            for content in image.layers.iter().chain([&image.config]) {
                let place = self.blob(&content.digest);
                // Renamed away already where two layers are the same.
                if !place.exists() {
                    fs::rename(&content.path, &place)
                        .map_err(ImageError::io(format!("rename to {}", place.display())))?;
                }
            }
            let digest = format!("sha256:{}", snapshot::hex(&<sha2::Sha256 as sha2::Digest>::digest(&image.manifest)));
            replace(&self.blob(&digest), &image.manifest)?;
            let descriptor = |name: Option<&String>| {
                let parsed: oci_spec::image::Digest =
                    digest.parse().map_err(|error| ImageError::document(&digest, error))?;
                let mut descriptor = Descriptor::new(image.media_type.clone(), image.manifest.len() as u64, parsed);
                let annotations = name
                    .map(|name| HashMap::from([CONTAINERD_NAME, REF_NAME].map(|key| (key.to_owned(), name.clone()))));
                descriptor.set_annotations(annotations);
                Ok(descriptor)
            };
            let named = |known: &Descriptor, name: &String| {
                known.annotations().as_ref().and_then(|all| all.get(CONTAINERD_NAME)) == Some(name)
            };
            index.retain(|known| !image.names.iter().any(|name| named(known, name)));
            if image.names.is_empty() && !index.iter().any(|known| known.digest().to_string() == digest) {
                index.push(descriptor(None)?);
            }
            for name in &image.names {
                index.push(descriptor(Some(name))?);
            }
        }
        // Layers and blobs must be on disk before the index names them, or a power failure could leave an image with
        // holes. What the index does not name is removed at the next start.
        fs::File::open(&self.directory)
            .and_then(|directory| Ok(rustix::fs::syncfs(&directory)?))
            .map_err(ImageError::io("sync the store"))?;
        self.write_index(index)?;
        self.load()
    }

    fn write_index(&self, manifests: Vec<Descriptor>) -> Result<(), ImageError> {
        let mut index = ImageIndex::default();
        index.set_schema_version(2);
        index.set_media_type(Some(MediaType::ImageIndex));
        index.set_manifests(manifests);
        let bytes = serde_json::to_vec(&index).map_err(|error| ImageError::document("index.json", error))?;
        replace(&self.directory.join("index.json"), &bytes)
    }

    /// All images, those made of the binary included.
    pub(crate) fn list(&self) -> Vec<Arc<StoredImage>> {
        self.builtin.iter().chain(self.images.read().iter()).cloned().collect()
    }

    /// The image of that id (with or without `sha256:`) or reference.
    pub(crate) fn get(&self, image: &str) -> Option<Arc<StoredImage>> {
        let id = image.trim_start_matches("sha256:");
        let reference = Reference::parse(image).ok();
        self.list().into_iter().find(|known| {
            known.id.trim_start_matches("sha256:") == id
                || reference.as_ref().is_some_and(|reference| known.is_called(reference))
        })
    }

    /// Removes a name, or by id the whole image. `layers_in_use` stay unpacked.
    pub(crate) fn remove(&self, image: &str, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let Some(found) = self.get(image) else { return Ok(()) };
        let _changing = self.changing.lock();
        let by_id = found.id.trim_start_matches("sha256:") == image.trim_start_matches("sha256:");
        let name = Reference::parse(image).ok().and_then(|reference| {
            found.names.iter().find(|name| reference.digest().is_none() && **name == reference.to_string()).cloned()
        });
        let mut index = self.index()?;
        index.retain(|known| {
            if Some(known.digest().to_string()) != found.manifest_digest {
                return true;
            }
            let known_name = known.annotations().as_ref().and_then(|all| all.get(CONTAINERD_NAME));
            match (&name, by_id) {
                (Some(name), false) => known_name != Some(name),
                _ => false,
            }
        });
        self.write_index(index)?;
        self.load()?;
        self.collect_garbage(layers_in_use)
    }

    /// Removes blobs and layers that neither an image nor a container needs.
    pub(crate) fn clean(&self, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let _changing = self.changing.lock();
        self.collect_garbage(layers_in_use)
    }

    fn collect_garbage(&self, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let mut blobs = HashSet::new();
        let mut layers = layers_in_use.clone();
        for image in self.list() {
            layers.extend(image.diff_ids.iter().cloned());
            if let Some(digest) = &image.manifest_digest {
                let bytes = fs::read(self.blob(digest)).map_err(ImageError::io(format!("read {digest}")))?;
                let manifest: ImageManifest =
                    serde_json::from_slice(&bytes).map_err(|error| ImageError::document(digest, error))?;
                blobs.insert(digest.clone());
                blobs.insert(image.id.clone());
                blobs.extend(manifest.layers().iter().map(|layer| layer.digest().to_string()));
            }
        }
        let directory = self.directory.join("blobs/sha256");
        for entry in fs::read_dir(&directory).map_err(ImageError::io("list blobs"))?.flatten() {
            if !blobs.contains(&format!("sha256:{}", entry.file_name().to_string_lossy())) {
                fs::remove_file(entry.path()).map_err(ImageError::io(format!("remove {}", entry.path().display())))?;
            }
        }
        self.snapshots
            .keep_only(&layers)
            .map_err(|error| ImageError::Layer { layer: "unused".to_owned(), detail: error.to_string() })
    }
}

impl StoredImage {
    /// Does the reference name this image, by name or by digest?
    fn is_called(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => {
                let same_name =
                    |name: &String| Reference::parse(name).is_ok_and(|name| name.name() == reference.name());
                self.manifest_digest.as_deref() == Some(digest) && self.names.iter().any(same_name)
            }
            None => self.names.contains(&reference.to_string()),
        }
    }
}

/// Writes a file whole or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    crate::record::replace(path, bytes).map_err(ImageError::io(format!("write {}", path.display())))
}
