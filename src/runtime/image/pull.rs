//! Pulling images from registries.
//!
//! A pull is a task of its own, which all who want the same image wait for. Its layers arrive in parallel, each digested,
//! kept and unpacked in one pass; nothing is visible before all of it is there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{self, StreamExt, TryStreamExt};
use k3s_cri::{Error, RegistryAuth};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::layer::Expected;
use super::lease::Lease;
use super::store::{Entry, ImageStore, as_index};
use super::{ARCHITECTURE, ImageError, Reference, import, platform, reference};
use crate::Runtime;
use crate::registry::{Client, Endpoint, Manifest, Registries, RegistryError};

/// Layers of one image that arrive at the same time, as containerd has it.
const PARALLEL_LAYERS: usize = 3;
/// Pieces of a layer that may wait for being unpacked.
const PIECES: usize = 32;

type Pull = Shared<BoxFuture<'static, Result<String, Error>>>;

/// The pulls under way.
pub(crate) struct Pulls {
    client: Client,
    running: Mutex<HashMap<(Reference, Option<RegistryAuth>), Pull>>,
    /// One at a time gets a blob that several images share.
    blobs: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Pulls {
    pub(crate) fn new() -> Self {
        Self { client: Client::new(), running: Mutex::default(), blobs: Mutex::default() }
    }

    fn blob_lock(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.blobs.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(digest.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl Runtime {
    /// Other ways to reach registries, for pulls that begin from now on. Certificates that it names are read anew, even
    /// if their names are as before.
    pub fn set_registries(&self, registries: Registries) {
        *self.registries.write() = registries;
        self.pulls.client.forget_connections();
    }

    /// Pulls the image, or waits for the pull of it that goes on already. Returns its id.
    pub(crate) async fn pull(
        self: Arc<Self>,
        reference: Reference,
        auth: Option<RegistryAuth>,
    ) -> Result<String, Error> {
        let key = (reference, auth);
        let pull = {
            let mut running = self.pulls.running.lock();
            match running.get(&key) {
                Some(pull) => pull.clone(),
                None => {
                    let pull = self.clone().spawn_pull(key.clone()).boxed().shared();
                    running.insert(key.clone(), pull.clone());
                    pull
                }
            }
        };
        let result = pull.clone().await;
        // The first to wake takes it away; a newer one of that name is not ours.
        let mut running = self.pulls.running.lock();
        if running.get(&key).is_some_and(|known| known.ptr_eq(&pull)) {
            running.remove(&key);
        }
        result
    }

    async fn spawn_pull(self: Arc<Self>, key: (Reference, Option<RegistryAuth>)) -> Result<String, Error> {
        let image = key.0.to_string();
        let began = Instant::now();
        tracing::info!(%image, "pulling image");
        let runtime = self.clone();
        // In a task, so that it goes on when whoever asked first goes away.
        let task = tokio::spawn(async move { runtime.pull_now(&key.0, key.1.as_ref()).await });
        let result = task.await.unwrap_or_else(|error| Err(ImageError::List(error.to_string())));
        match result {
            Ok(id) => {
                tracing::info!(%image, %id, took_ms = began.elapsed().as_millis() as u64, "pulled image");
                Ok(id)
            }
            Err(error) => {
                tracing::warn!(%image, %error, "cannot pull image");
                // What has arrived of it takes no space.
                let (images, layers) = (self.images.clone(), self.layers_in_use());
                if let Err(error) = super::blocking("clean after pull", move || images.clean(&layers)).await {
                    tracing::warn!(%error, "parts of an image stay on disk until the next start");
                }
                Err(match error {
                    ImageError::NotFound { .. } => Error::ImageNotFound { image, detail: error.to_string() },
                    error if error.is_no_space() => Error::NoSpace { doing: format!("failed to pull image {image:?}") },
                    error => Error::Pull { image, detail: error.to_string() },
                })
            }
        }
    }

    async fn pull_now(&self, reference: &Reference, auth: Option<&RegistryAuth>) -> Result<String, ImageError> {
        let endpoints = self.registries.read().endpoints(reference);
        let mut pull = Running { runtime: self, auth, endpoints, lease: self.images.leases.begin() };
        let (target, manifest) = pull.resolve(reference).await?;
        let document: ImageManifest = serde_json::from_slice(&manifest.bytes)
            .map_err(|error| ImageError::document(format!("manifest {}", manifest.digest), error))?;
        let id = pull.content(&document).await?;
        let entry = Entry {
            names: vec![reference.to_string()],
            digest: target.digest,
            size: target.bytes.len() as u64,
            media_type: media_type(&target.media_type, &target.bytes),
        };
        let images = self.images.clone();
        let published = tokio::task::spawn_blocking(move || images.publish(&[entry])).await;
        published.map_err(|error| ImageError::List(error.to_string()))??;
        Ok(id)
    }
}

/// A pull in progress.
struct Running<'a> {
    runtime: &'a Runtime,
    auth: Option<&'a RegistryAuth>,
    /// The one that answered comes first.
    endpoints: Vec<Endpoint>,
    /// Keeps what has arrived until an image names it.
    lease: Lease,
}

impl Running<'_> {
    fn client(&self) -> &Client {
        &self.runtime.pulls.client
    }

    fn store(&self) -> &Arc<ImageStore> {
        &self.runtime.images
    }

    /// What the reference stands for, and the manifest for this machine; both in the store.
    async fn resolve(&mut self, reference: &Reference) -> Result<(Manifest, Manifest), ImageError> {
        let wanted = reference.tag_or_digest();
        let target = self.manifest(wanted, reference).await?;
        self.keep(&target)?;
        let mut current = target.clone();
        // Deeper nesting has no use.
        for _ in 0..4 {
            let Some(index) = as_index(&current.bytes) else { break };
            let digest = platform::choose(&index)?.digest().to_string();
            check_digest(&digest)?;
            current = self.manifest(&digest, reference).await?;
            self.keep(&current)?;
        }
        if current.media_type.contains("manifest.v1+") && current.media_type.contains("docker.distribution") {
            let detail = "media type application/vnd.docker.distribution.manifest.v1 is no longer supported";
            return Err(ImageError::document(&current.digest, detail));
        }
        Ok((target, current))
    }

    fn keep(&mut self, manifest: &Manifest) -> Result<(), ImageError> {
        self.lease.add(&manifest.digest);
        self.store().put(&manifest.bytes).map(drop)
    }

    /// Asks the endpoints in order. The one that has it is asked first for the rest.
    async fn manifest(&mut self, wanted: &str, reference: &Reference) -> Result<Manifest, ImageError> {
        let mut first = None;
        for position in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[position];
            match self.client().manifest_patiently(endpoint, endpoint.credentials(self.auth), wanted).await {
                Ok(manifest) => {
                    self.endpoints[..=position].rotate_right(1);
                    return Ok(manifest);
                }
                Err(RegistryError::NotFound { .. }) => {}
                Err(error) => {
                    tracing::debug!(endpoint = endpoint.base, %error, "endpoint does not give the manifest");
                    first = first.or(Some(error));
                }
            }
        }
        let image = reference.to_string();
        Err(match first {
            Some(error) => ImageError::registry(format!("failed to resolve reference {image:?}"), &error),
            None => ImageError::NotFound { reference: image },
        })
    }

    /// Gets the configuration and the layers. Returns the image's id.
    async fn content(&mut self, manifest: &ImageManifest) -> Result<String, ImageError> {
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            let digest = descriptor.digest().to_string();
            check_digest(&digest)?;
            self.lease.add(&digest);
        }
        let id = manifest.config().digest().to_string();
        self.blob(expected(manifest.config(), None)).await?;
        let bytes = self.store().read_blob(&id)?;
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| ImageError::document(&id, error))?;
        if config.os().to_string() != "linux" || config.architecture().to_string() != ARCHITECTURE {
            return Err(ImageError::Platform { os: "linux", architecture: ARCHITECTURE });
        }
        let diff_ids = import::diff_ids_of(&bytes, &id, manifest.layers().len())?;
        diff_ids.iter().for_each(|diff_id| self.lease.add(diff_id));
        let mut seen = HashSet::new();
        let layers: Vec<_> = manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .filter(|(layer, _)| seen.insert(layer.digest().to_string()))
            .map(|(layer, diff_id)| expected(layer, Some(diff_id)))
            .collect();
        let this = &*self;
        stream::iter(layers)
            .map(|layer| this.blob(layer))
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect::<()>()
            .await?;
        Ok(id)
    }

    /// Gets one blob, and unpacks it if it is a layer, unless that is done already.
    async fn blob(&self, expected: Expected) -> Result<(), ImageError> {
        let lock = self.runtime.pulls.blob_lock(&expected.digest);
        let _one = lock.lock().await;
        let store = self.store().clone();
        let lost = |error: tokio::task::JoinError| ImageError::List(error.to_string());
        if store.blob(&expected.digest).exists() {
            let Some(diff_id) = expected.diff_id else { return Ok(()) };
            let unpack = move || store.unpack(&diff_id, &store.blob(&expected.digest));
            return tokio::task::spawn_blocking(unpack).await.map_err(lost)?;
        }
        let (sender, receiver) = mpsc::channel(PIECES);
        let what = expected.clone();
        let received = tokio::task::spawn_blocking(move || store.receive(&what, receiver));
        let (digest, size) = (&expected.digest, expected.size);
        let downloaded = self.client().download(&self.endpoints, self.auth, digest, size, &sender).await;
        drop(sender);
        let received = received.await.map_err(lost)?;
        downloaded.map_err(|error| ImageError::registry(format!("failed to copy {digest}"), &error))?;
        received
    }
}

fn expected(descriptor: &Descriptor, diff_id: Option<String>) -> Expected {
    Expected { digest: descriptor.digest().to_string(), size: descriptor.size(), diff_id }
}

fn check_digest(digest: &str) -> Result<(), ImageError> {
    match reference::is_digest(digest) {
        true => Ok(()),
        // It would become a file's name.
        false => Err(ImageError::document(digest, "no sha256 digest")),
    }
}

/// The media type that a registry gave, or if it gave none the one that the document has.
fn media_type(given: &str, bytes: &[u8]) -> MediaType {
    match given {
        "" | "application/json" | "text/plain" | "application/octet-stream" => {
            if as_index(bytes).is_some() {
                MediaType::ImageIndex
            } else {
                MediaType::ImageManifest
            }
        }
        given => MediaType::from(given),
    }
}
