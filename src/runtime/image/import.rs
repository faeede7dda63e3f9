//! Importing docker-archives and OCI layouts.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType,
    SCHEMA_VERSION,
};
use serde::Deserialize;

use super::archive::{self, Content, Contents};
use super::compression::{Compression, decompress};
use super::store::ImageStore;
use super::{ImageError, Reference, platform};

/// containerd's annotation for an image's full name.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// OCI's annotation, which tools also use for a bare tag.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What became of one file of the images directory.
#[derive(Debug)]
pub struct ImportReport {
    /// The file.
    pub file: PathBuf,
    /// Names of the images in it, now in the store; or why it could not be imported.
    pub result: Result<Vec<String>, ImageError>,
}

/// An image found in an archive, with all it is made of.
pub(super) struct Found {
    pub names: Vec<String>,
    pub manifest: Vec<u8>,
    pub media_type: MediaType,
    pub config: Content,
    pub layers: Vec<Content>,
    pub diff_ids: Vec<String>,
}

/// An entry of a docker-archive's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Imports the images of one archive. On failure nothing of it is visible.
pub(super) fn import(store: &ImageStore, archive: impl Read + Send) -> Result<Vec<String>, ImageError> {
    let ingest = store.ingest()?;
    let contents = archive::read(archive, ingest.path())?;
    let found = if contents.get("manifest.json").is_some() && !has_names(&contents) {
        docker_archive(&contents)?
    } else if contents.get("index.json").is_some() {
        oci_layout(&contents)?
    } else {
        return Err(ImageError::NotAnArchive);
    };
    let names = found.iter().flat_map(|image| image.names.iter().cloned()).collect();
    let mut lease = store.leases.begin();
    for image in &found {
        for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
            lease.add(diff_id);
            if layer.digest == *diff_id || !store.snapshots.has(diff_id) {
                store.unpack(diff_id, &layer.path)?;
            } else {
                // Unpacked from another image already, so unpacking would not look at this one's bytes.
                archive::verify(decompress(open(&layer.path)?)?, diff_id)?;
            }
        }
    }
    store.add(found)?;
    Ok(names)
}

/// Does the archive have an OCI index that names its images? Docker writes both forms, older versions without names.
fn has_names(contents: &Contents) -> bool {
    let index = contents.read("index.json").ok().and_then(|bytes| serde_json::from_slice::<ImageIndex>(&bytes).ok());
    index.is_some_and(|index| index.manifests().iter().any(|manifest| name_of(manifest).is_some()))
}

fn docker_archive(contents: &Contents) -> Result<Vec<Found>, ImageError> {
    let bytes = contents.read("manifest.json")?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::document("manifest.json", error))?;
    images.iter().map(|image| docker_image(contents, image)).collect()
}

fn docker_image(contents: &Contents, image: &DockerImage) -> Result<Found, ImageError> {
    let missing = |what: &str| ImageError::Missing { what: what.to_owned() };
    let config = contents.get(&image.config).ok_or_else(|| missing(&image.config))?;
    // The file is named by its digest: `<hex>.json`, or `blobs/sha256/<hex>`.
    let named = Path::new(&image.config).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if super::reference::is_hex(named) && config.digest != format!("sha256:{named}") {
        return Err(ImageError::Digest { what: image.config.clone(), found: config.digest.clone() });
    }
    let mut layers = Vec::new();
    for name in &image.layers {
        layers.push(contents.get(name).ok_or_else(|| missing(name))?.clone());
    }
    let diff_ids = diff_ids(config, layers.len())?;
    let document = |error| ImageError::document("manifest", error);
    let mut descriptors = Vec::new();
    for layer in &layers {
        let compression = Compression::of_file(open(&layer.path)?)?;
        descriptors.push(descriptor(compression.media_type(), layer)?);
    }
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, config)?)
        .layers(descriptors)
        .build()
        .map_err(document)?;
    let names = image.repo_tags.iter().flatten().filter_map(|tag| Reference::parse(tag).ok());
    Ok(Found {
        names: names.map(|name| name.to_string()).collect(),
        manifest: serde_json::to_vec(&manifest).map_err(|error| ImageError::document("manifest", error))?,
        media_type: MediaType::ImageManifest,
        config: config.clone(),
        layers,
        diff_ids,
    })
}

fn descriptor(kind: MediaType, content: &Content) -> Result<Descriptor, ImageError> {
    let digest: oci_spec::image::Digest =
        content.digest.parse().map_err(|error| ImageError::document(&content.digest, error))?;
    DescriptorBuilder::default()
        .media_type(kind)
        .digest(digest)
        .size(content.size)
        .build()
        .map_err(|error| ImageError::document(&content.digest, error))
}

fn open(path: &Path) -> Result<File, ImageError> {
    File::open(path).map_err(ImageError::io(format!("open {}", path.display())))
}

fn oci_layout(contents: &Contents) -> Result<Vec<Found>, ImageError> {
    let bytes = contents.read("index.json")?;
    let index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::document("index.json", error))?;
    let mut found: Vec<Found> = Vec::new();
    for descriptor in index.manifests() {
        let name = name_of(descriptor);
        let manifest = manifest_for_this_machine(contents, descriptor)?;
        let image = oci_image(contents, &manifest, name)?;
        match found.iter_mut().find(|known| known.manifest == image.manifest) {
            Some(known) => known.names.extend(image.names),
            None => found.push(image),
        }
    }
    Ok(found)
}

/// The name a descriptor of an index gives, if it is a whole one.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let whole = |name: &String| name.contains([':', '/']);
    let name = annotations.get(CONTAINERD_NAME).or_else(|| annotations.get(REF_NAME).filter(|name| whole(name)))?;
    Reference::parse(name).ok().map(|name| name.to_string())
}

/// Follows indexes of platforms down to a manifest.
fn manifest_for_this_machine(contents: &Contents, descriptor: &Descriptor) -> Result<Descriptor, ImageError> {
    let mut current = descriptor.clone();
    // Deeper nesting has no use.
    for _ in 0..4 {
        if !platform::is_index(current.media_type()) {
            return Ok(current);
        }
        let digest = current.digest().to_string();
        let bytes = contents.blob(&digest)?.read()?;
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|error| ImageError::document(&digest, error))?;
        current = platform::choose(&index)?.clone();
    }
    Err(ImageError::document(descriptor.digest().to_string(), "indexes nested too deeply"))
}

fn oci_image(contents: &Contents, descriptor: &Descriptor, name: Option<String>) -> Result<Found, ImageError> {
    let digest = descriptor.digest().to_string();
    let bytes = contents.blob(&digest)?.read()?;
    let manifest: ImageManifest =
        serde_json::from_slice(&bytes).map_err(|error| ImageError::document(&digest, error))?;
    let config = contents.blob(manifest.config().digest().as_ref())?.clone();
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        layers.push(contents.blob(layer.digest().as_ref())?.clone());
    }
    let diff_ids = diff_ids(&config, layers.len())?;
    Ok(Found {
        names: name.into_iter().collect(),
        manifest: bytes,
        media_type: descriptor.media_type().clone(),
        config,
        layers,
        diff_ids,
    })
}

fn diff_ids(config: &Content, layers: usize) -> Result<Vec<String>, ImageError> {
    diff_ids_of(&config.read()?, &config.digest, layers)
}

/// The digests of the uncompressed layers that a configuration names: `layers` of them.
pub(super) fn diff_ids_of(config: &[u8], digest: &str, layers: usize) -> Result<Vec<String>, ImageError> {
    let parsed: ImageConfiguration =
        serde_json::from_slice(config).map_err(|error| ImageError::document(digest, error))?;
    let diff_ids = parsed.rootfs().diff_ids().clone();
    if let Some(bad) = diff_ids.iter().find(|diff_id| !super::reference::is_digest(diff_id)) {
        return Err(ImageError::document(digest, format!("diff id {bad:?} is no sha256 digest")));
    }
    if diff_ids.len() != layers {
        let detail = format!("names {} layers, the manifest {layers}", diff_ids.len());
        return Err(ImageError::document(digest, detail));
    }
    Ok(diff_ids)
}
