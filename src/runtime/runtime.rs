//! The runtime itself: what it holds, how it starts (which is recovery), how it ends.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use k3s_cri::{ContainerEvent, ContainerEventKind, PodNetwork};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::cgroup::{Cgroup, Cgroups};
use crate::container::Container;
use crate::disk::DiskUsage;
use crate::handlers::Handlers;
use crate::image::{self, BuiltinImage, ImageError, ImageStore, Pulls};
use crate::registry::Registries;
use crate::sandbox::Sandbox;
use crate::shim::client::ShimEvent;
use crate::snapshot::{Snapshots, Snapshotter};
use crate::stats::Processes;

/// What a runtime is made with.
pub struct Options {
    /// Persistent: images, layers, containers (`<data-dir>/agent/containerd`).
    pub root: PathBuf,
    /// Gone with a reboot: sockets and files of running sandboxes (`/run/k3s/runtime`).
    pub state: PathBuf,
    /// Archives here are imported, at start and when they appear (`<data-dir>/agent/images`).
    pub images_dir: PathBuf,
    /// Attaches pods to the network.
    pub network: Arc<dyn PodNetwork>,
    /// The binary that runs as `k3s shim`, `/proc/self/exe` in the product.
    pub self_exe: PathBuf,
    /// In a user namespace: what the kernel keeps from it is left out.
    pub rootless: bool,
    /// Images made of the running binary.
    pub builtin_images: Vec<BuiltinImage>,
    /// Where limits are enforced.
    pub cgroup: Cgroup,
    /// How registries are reached.
    pub registries: Registries,
    /// How new containers' file systems are made of images.
    pub snapshotter: Snapshotter,
}

/// Why a runtime can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory can't be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The image store can't be opened.
    #[error("open image store: {0}")]
    Images(#[from] ImageError),
    /// The layers can't be opened.
    #[error("open snapshots: {0}")]
    Snapshots(String),
    /// Another k3s uses the directory.
    #[error("{0} is in use by another k3s; stop it first")]
    InUse(PathBuf),
}

/// How long the lock may be held after its holder was killed: a child that was about to become a shim has it until then.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A container runtime.
pub struct Runtime {
    pub(crate) options: Options,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) pulls: Pulls,
    /// How registries are reached now.
    pub(crate) registries: RwLock<Registries>,
    pub(crate) cgroups: Cgroups,
    pub(crate) disk: DiskUsage,
    pub(crate) processes: Processes,
    pub(crate) handlers: Handlers,
    pub(crate) sandboxes: RwLock<HashMap<String, Arc<Sandbox>>>,
    pub(crate) containers: RwLock<HashMap<String, Arc<Container>>>,
    pub(crate) importing: tokio::sync::Mutex<()>,
    pub(crate) shim_events: mpsc::UnboundedSender<ShimEvent>,
    events: broadcast::Sender<ContainerEvent>,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    this: Weak<Self>,
    /// Held as long as the runtime lives.
    _lock: fs::File,
}

impl Runtime {
    /// Opens the runtime: takes up the sandboxes that run, notes what has ended, clears what no one owns. From then on
    /// images that appear in the images directory are imported; for those that are there already, call
    /// [`Runtime::import_images`]. Must be called in a tokio runtime.
    pub async fn open(options: Options) -> Result<Arc<Self>, Error> {
        for directory in [&options.root, &options.state, &options.images_dir] {
            make_directory(directory)?;
        }
        for name in ["sandboxes", "containers"] {
            make_directory(&options.root.join(name))?;
        }
        let lock = lock(&options.root).await?;
        let snapshots = Snapshots::open(&options.root, options.snapshotter);
        let snapshots = Arc::new(snapshots.map_err(|error| Error::Snapshots(error.to_string()))?);
        let images = Arc::new(ImageStore::open(&options.root, snapshots.clone(), &options.builtin_images)?);
        let cgroups = Cgroups::open(&options.cgroup);
        if let Some(reason) = &cgroups.unavailable {
            tracing::warn!(%reason, "not all limits of pods are enforced");
        }
        let handlers = Handlers::find(std::env::var_os("PATH").as_deref());
        let (shim_events, receiver) = mpsc::unbounded_channel();
        let registries = RwLock::new(options.registries.clone());
        let runtime = Arc::new_cyclic(|this| Self {
            options,
            snapshots,
            images,
            pulls: Pulls::new(),
            registries,
            cgroups,
            disk: DiskUsage::default(),
            processes: Processes::default(),
            handlers,
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            importing: tokio::sync::Mutex::default(),
            shim_events,
            events: broadcast::channel(1024).0,
            tasks: parking_lot::Mutex::default(),
            this: this.clone(),
            _lock: lock,
        });
        runtime.recover().await;
        let in_use = runtime.layers_in_use();
        if let Err(error) = runtime.images.clean(&in_use) {
            tracing::warn!(%error, "unused layers stay on disk");
        }
        let watch = image::watch::watch(Arc::downgrade(&runtime), runtime.options.images_dir.clone());
        let tasks = [tokio::spawn(listen(Arc::downgrade(&runtime), receiver)), tokio::spawn(watch)];
        runtime.tasks.lock().extend(tasks);
        Ok(runtime)
    }

    /// Ends the runtime's own tasks. Sandboxes go on; the next [`Runtime::open`] takes them up.
    pub async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // Aborted, as asked.
            let _ = task.await;
        }
    }

    /// Itself, for work that must be finished also when its caller goes away.
    pub(crate) fn strong(&self) -> Result<Arc<Self>, k3s_cri::Error> {
        self.this
            .upgrade()
            .ok_or_else(|| k3s_cri::Error::FailedPrecondition { detail: "the runtime is closing".to_owned() })
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ContainerEvent> {
        self.events.subscribe()
    }

    pub(crate) fn publish(&self, kind: ContainerEventKind, container_id: &str, sandbox: &Sandbox) {
        let event = ContainerEvent {
            kind,
            container_id: container_id.to_owned(),
            sandbox_id: sandbox.id.clone(),
            pod_uid: sandbox.record.lock().config.uid.clone(),
        };
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// Diff ids of the layers that containers stand on.
    pub(crate) fn layers_in_use(&self) -> HashSet<String> {
        let layers = |container: &Arc<Container>| {
            let record = container.record.lock();
            record.layers.iter().chain(&record.volume_layers).cloned().collect::<Vec<_>>()
        };
        self.containers.read().values().flat_map(layers).collect()
    }
}

/// Acts on what shims tell unasked.
async fn listen(runtime: Weak<Runtime>, mut events: mpsc::UnboundedReceiver<ShimEvent>) {
    while let Some(event) = events.recv().await {
        let Some(runtime) = runtime.upgrade() else { return };
        match event {
            ShimEvent::ContainerExited { container, exit } => runtime.container_exited(&container, exit),
            ShimEvent::Disconnected { sandbox_id } => {
                // Takes time when the shim's processes die slowly; others must not wait for it.
                tokio::spawn(async move { runtime.shim_disconnected(&sandbox_id).await });
            }
        }
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|source| Error::Io { doing: format!("create {}", path.display()), source })
}

async fn lock(root: &Path) -> Result<fs::File, Error> {
    let path = root.join("lock");
    let doing = |source| Error::Io { doing: format!("lock {}", path.display()), source };
    let file = fs::File::create(&path).map_err(doing)?;
    let began = Instant::now();
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN) if began.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(rustix::io::Errno::AGAIN) => return Err(Error::InUse(root.to_owned())),
            Err(error) => return Err(doing(error.into())),
        }
    }
}
