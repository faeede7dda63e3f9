//! The image store: `<root>/images` is an OCI image layout, as skopeo and others read it. What `index.json` does not
//! name does not exist; it is replaced in one step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k3s_cri::NamedImage;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use parking_lot::{Mutex, RwLock};

use super::compression::decompress;
use super::import::{CONTAINERD_NAME, Found, REF_NAME};
use super::lease::Leases;
use super::platform;
use super::{BuiltinImage, ImageError, Reference};
use crate::id;
use crate::snapshot::{self, Snapshots};

/// An image that containers can be made of.
#[derive(Debug, Clone)]
pub(crate) struct StoredImage {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Fully qualified references.
    pub names: Vec<String>,
    /// What the names stand for: the manifest, or the index that has it.
    pub target: Option<String>,
    pub manifest_digest: Option<String>,
    /// Digests of all that it has in the store, documents and layers.
    pub blobs: Vec<String>,
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
    /// Names that garbage collection leaves alone: those of archives in the images directory.
    pinned: RwLock<HashSet<String>>,
    /// What is on its way in.
    pub(super) leases: Arc<Leases>,
    /// Held while `index.json` and what it names change.
    changing: Mutex<()>,
}

/// A line of `index.json` to be.
pub(super) struct Entry {
    pub names: Vec<String>,
    /// Of a manifest or index that is in the store.
    pub digest: String,
    pub size: u64,
    pub media_type: MediaType,
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
        let store = Self {
            directory,
            snapshots,
            builtin,
            images: RwLock::default(),
            pinned: RwLock::default(),
            leases: Arc::default(),
            changing: Mutex::default(),
        };
        store.load()?;
        Ok(store)
    }

    pub(super) fn ingest(&self) -> Result<Ingest, ImageError> {
        let path = self.directory.join("ingest").join(id::new());
        fs::create_dir(&path).map_err(ImageError::io(format!("create {}", path.display())))?;
        Ok(Ingest(path))
    }

    /// Where a blob is, or would be. `digest` must have been checked to be one.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
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

    pub(super) fn read_blob(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        fs::read(self.blob(digest)).map_err(ImageError::io(format!("read {digest}")))
    }

    /// Reads the image that a manifest, or an index's entry for this machine, describes.
    fn load_image(&self, target: &str) -> Result<StoredImage, ImageError> {
        let mut digest = target.to_owned();
        let mut blobs = vec![digest.clone()];
        let mut bytes = self.read_blob(&digest)?;
        // Deeper nesting has no use.
        for _ in 0..4 {
            let Some(index) = as_index(&bytes) else { break };
            digest = platform::choose(&index)?.digest().to_string();
            blobs.push(digest.clone());
            bytes = self.read_blob(&digest)?;
        }
        let manifest: ImageManifest =
            serde_json::from_slice(&bytes).map_err(|error| ImageError::document(&digest, error))?;
        let id = manifest.config().digest().to_string();
        blobs.push(id.clone());
        blobs.extend(manifest.layers().iter().map(|layer| layer.digest().to_string()));
        let config: ImageConfiguration =
            serde_json::from_slice(&self.read_blob(&id)?).map_err(|error| ImageError::document(&id, error))?;
        let diff_ids = config.rootfs().diff_ids().clone();
        for (diff_id, layer) in diff_ids.iter().zip(manifest.layers()) {
            self.unpack(diff_id, &self.blob(layer.digest().as_ref()))?;
        }
        let layers: u64 = manifest.layers().iter().map(Descriptor::size).sum();
        let size = bytes.len() as u64 + manifest.config().size() + layers;
        Ok(StoredImage {
            id,
            names: Vec::new(),
            target: Some(target.to_owned()),
            manifest_digest: Some(digest),
            blobs,
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
        self.snapshots.unpack(diff_id, decompress(file)?).map_err(|error| ImageError::layer(diff_id, error))
    }

    /// Takes images whose layers are unpacked into the store. A name moves to the newest image of that name.
    pub(super) fn add(&self, found: Vec<Found>) -> Result<(), ImageError> {
        let mut lease = self.leases.begin();
        let mut entries = Vec::new();
        for image in found {
            for content in image.layers.iter().chain([&image.config]) {
                lease.add(&content.digest);
                let place = self.blob(&content.digest);
                // Renamed away already where two layers are the same.
                if !place.exists() {
                    fs::rename(&content.path, &place)
                        .map_err(ImageError::io(format!("rename to {}", place.display())))?;
                }
            }
            let digest = self.put(&image.manifest)?;
            lease.add(&digest);
            let size = image.manifest.len() as u64;
            entries.push(Entry { names: image.names, digest, size, media_type: image.media_type });
        }
        self.publish(&entries)
    }

    /// Keeps a document; returns its digest.
    pub(super) fn put(&self, document: &[u8]) -> Result<String, ImageError> {
        let digest = format!("sha256:{}", snapshot::hex(&<sha2::Sha256 as sha2::Digest>::digest(document)));
        replace(&self.blob(&digest), document)?;
        Ok(digest)
    }

    /// Makes images visible whose content is in the store.
    pub(super) fn publish(&self, entries: &[Entry]) -> Result<(), ImageError> {
        let _changing = self.changing.lock();
        let mut index = self.index()?;
        for entry in entries {
            index.retain(|known| !entry.names.iter().any(|name| name_of(known) == Some(name)));
            if entry.names.is_empty() && !index.iter().any(|known| known.digest().to_string() == entry.digest) {
                index.push(entry.descriptor(None)?);
            }
            for name in &entry.names {
                index.push(entry.descriptor(Some(name))?);
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

    /// Gives an image one more name.
    pub(crate) fn tag(&self, image: &str, name: &Reference) -> Result<(), ImageError> {
        let missing = || ImageError::Missing { what: format!("image {image}") };
        let found = self.get(image).ok_or_else(missing)?;
        let target = found.target.clone().ok_or_else(missing)?;
        let known = self.index()?.into_iter().find(|known| known.digest().to_string() == target);
        let known = known.ok_or_else(missing)?;
        self.publish(&[Entry {
            names: vec![name.to_string()],
            digest: target,
            size: known.size(),
            media_type: known.media_type().clone(),
        }])
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

    /// All images by name; those without one by their id.
    pub(crate) fn named(&self) -> Result<Vec<NamedImage>, ImageError> {
        let types: HashMap<String, String> =
            self.index()?.iter().map(|entry| (entry.digest().to_string(), entry.media_type().to_string())).collect();
        let mut named = Vec::new();
        for image in self.list() {
            let digest = image.target.clone().unwrap_or_else(|| image.id.clone());
            let media_type = types.get(&digest).cloned().unwrap_or_else(|| MediaType::ImageConfig.to_string());
            let platform = format!("{}/{}", image.config.os(), image.config.architecture());
            let names = if image.names.is_empty() { vec![image.id.clone()] } else { image.names.clone() };
            named.extend(names.into_iter().map(|name| NamedImage {
                name,
                media_type: media_type.clone(),
                digest: digest.clone(),
                size: image.size,
                platforms: vec![platform.clone()],
                pinned: self.is_pinned(&image),
            }));
        }
        Ok(named)
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

    /// Removes an image with all its names. `layers_in_use` stay unpacked.
    pub(crate) fn remove(&self, image: &str, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let Some(found) = self.get(image) else { return Ok(()) };
        let targets: HashSet<String> =
            self.list().iter().filter(|known| known.id == found.id).filter_map(|known| known.target.clone()).collect();
        self.forget(layers_in_use, |known| targets.contains(&known.digest().to_string()))
    }

    /// Takes one name away, and the image with its last one.
    pub(crate) fn untag(&self, name: &Reference, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let name = name.to_string();
        self.forget(layers_in_use, |known| name_of(known) == Some(&name))
    }

    fn forget(&self, layers_in_use: &HashSet<String>, which: impl Fn(&Descriptor) -> bool) -> Result<(), ImageError> {
        let _changing = self.changing.lock();
        let mut index = self.index()?;
        index.retain(|known| !which(known));
        self.write_index(index)?;
        self.load()?;
        self.collect_garbage(layers_in_use)
    }

    /// From now on these names are pinned, and no others.
    pub(super) fn pin(&self, names: HashSet<String>) {
        *self.pinned.write() = names;
    }

    /// Does garbage collection leave the image alone?
    pub(super) fn is_pinned(&self, image: &StoredImage) -> bool {
        let pinned = self.pinned.read();
        image.builtin || image.names.iter().any(|name| pinned.contains(name))
    }

    /// Removes blobs and layers that neither an image nor a container needs.
    pub(crate) fn clean(&self, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        let _changing = self.changing.lock();
        self.collect_garbage(layers_in_use)
    }

    fn collect_garbage(&self, layers_in_use: &HashSet<String>) -> Result<(), ImageError> {
        // What is on its way in is nobody's yet.
        let mut blobs: HashSet<String> = self.leases.held().into_iter().collect();
        let mut layers: HashSet<String> = layers_in_use.iter().chain(&blobs).cloned().collect();
        for image in self.list() {
            layers.extend(image.diff_ids.iter().cloned());
            blobs.extend(image.blobs.iter().cloned());
        }
        let directory = self.directory.join("blobs/sha256");
        for entry in fs::read_dir(&directory).map_err(ImageError::io("list blobs"))?.flatten() {
            if !blobs.contains(&format!("sha256:{}", entry.file_name().to_string_lossy())) {
                fs::remove_file(entry.path()).map_err(ImageError::io(format!("remove {}", entry.path().display())))?;
            }
        }
        self.snapshots.keep_only(&layers).map_err(|error| ImageError::layer("unused", error))
    }
}

impl Entry {
    fn descriptor(&self, name: Option<&String>) -> Result<Descriptor, ImageError> {
        let digest: oci_spec::image::Digest =
            self.digest.parse().map_err(|error| ImageError::document(&self.digest, error))?;
        let mut descriptor = Descriptor::new(self.media_type.clone(), self.size, digest);
        let annotate =
            |name: &String| HashMap::from([CONTAINERD_NAME, REF_NAME].map(|key| (key.to_owned(), name.clone())));
        descriptor.set_annotations(name.map(annotate));
        Ok(descriptor)
    }
}

/// The full name that an entry of `index.json` gives.
fn name_of(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations().as_ref()?.get(CONTAINERD_NAME)
}

/// The document as an index, if it is one. Registries are not always right about media types, so the form decides.
pub(super) fn as_index(bytes: &[u8]) -> Option<ImageIndex> {
    serde_json::from_slice::<ImageIndex>(bytes).ok()
}

impl StoredImage {
    /// Does the reference name this image, by name or by digest?
    fn is_called(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => {
                let same_name =
                    |name: &String| Reference::parse(name).is_ok_and(|name| name.name() == reference.name());
                [&self.manifest_digest, &self.target].iter().any(|known| known.as_deref() == Some(digest))
                    && self.names.iter().any(same_name)
            }
            None => self.names.contains(&reference.to_string()),
        }
    }
}

/// Writes a file whole or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    crate::record::replace(path, bytes).map_err(ImageError::io(format!("write {}", path.display())))
}
