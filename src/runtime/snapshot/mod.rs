//! Image layers unpacked on disk, each once, and what containers see of them.

mod copy;
mod fuse;
mod guard;
mod tree;
mod unpack;

pub(crate) use self::unpack::hex;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;

use self::fuse::FuseOverlayfs;
use crate::executor::{self, RootFilesystem, RootKind};
use crate::{id, mount_table};

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An operation on the store failed.
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    /// The layer's archive is damaged or hostile.
    #[error("entry {entry:?}: {detail}")]
    Entry { entry: String, detail: String },
    /// The layer is not the one that the image names.
    #[error("layer is {found}, not {expected} as the image says")]
    Digest { expected: String, found: String },
    /// The snapshotter that was asked for does not work here.
    #[error("snapshotter {snapshotter} does not work here: {detail}; use {instead}")]
    Unavailable { snapshotter: &'static str, detail: String, instead: &'static str },
}

pub(crate) fn io_error(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}

/// How containers' file systems are made of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Snapshotter {
    /// Laid over one another by the kernel; where it can't, by fuse-overlayfs; where there is none, copied.
    #[default]
    Overlayfs,
    /// Laid over one another by the program fuse-overlayfs.
    FuseOverlayfs,
    /// Copied.
    Native,
}

/// How it is done here.
enum Kind {
    Overlay,
    Fuse(FuseOverlayfs),
    Copy,
}

/// Where a container's file system is mounted while it starts, below its directory.
const MERGED: &str = "merged";
/// What fuse-overlayfs says of it.
const LOG: &str = "fuse-overlayfs.log";

/// Unpacked layers below `<root>/snapshots`, named by diff id.
pub(crate) struct Snapshots {
    root: PathBuf,
    kind: Kind,
}

impl Snapshots {
    /// Opens the store below `root` and finds out how containers can see layers over one another here. What a crash left
    /// half unpacked is removed.
    pub(crate) fn open(root: &Path, snapshotter: Snapshotter) -> Result<Self, Error> {
        let directory = root.join("snapshots");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&directory)
            .map_err(io_error(format!("create {}", directory.display())))?;
        let snapshots = Self { root: root.to_owned(), kind: Kind::Copy };
        for entry in fs::read_dir(&directory).map_err(io_error("list snapshots"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                // A probe of fuse-overlayfs that was killed in the midst.
                let cleared =
                    mount_table::unmount(&entry.path().join(MERGED)).and_then(|()| tree::remove(&entry.path()));
                cleared.map_err(io_error(format!("remove {}", entry.path().display())))?;
            }
        }
        let kind = match snapshotter {
            Snapshotter::Native => Kind::Copy,
            Snapshotter::FuseOverlayfs => snapshots.fuse().map(Kind::Fuse).map_err(|detail| Error::Unavailable {
                snapshotter: "fuse-overlayfs",
                detail,
                instead: "--snapshotter overlayfs or native",
            })?,
            Snapshotter::Overlayfs => snapshots.overlay_or_instead(),
        };
        Ok(Self { kind, ..snapshots })
    }

    fn overlay_or_instead(&self) -> Kind {
        let Err(error) = self.overlay() else { return Kind::Overlay };
        match self.fuse() {
            Ok(fuse) => {
                tracing::warn!(%error, "overlayfs does not work here; fuse-overlayfs takes its place");
                Kind::Fuse(fuse)
            }
            Err(fuse) => {
                tracing::warn!(%error, fuse_overlayfs = %fuse, "overlayfs does not work here; containers get copies of their images");
                Kind::Copy
            }
        }
    }

    /// Does the kernel mount overlays here?
    fn overlay(&self) -> Result<(), String> {
        self.probe(|directory| {
            for name in ["lower", "upper", "work"] {
                fs::create_dir_all(directory.join(name)).map_err(|error| error.to_string())?;
            }
            let (upper, work) = (directory.join("upper"), directory.join("work"));
            let mounted = executor::overlay(&[directory.join("lower")], Some((&upper, &work)));
            mounted.map(drop).map_err(|error| error.to_string())
        })
    }

    fn fuse(&self) -> Result<FuseOverlayfs, String> {
        let fuse = FuseOverlayfs::find()?;
        self.probe(|directory| fuse.probe(&self.root, directory))?;
        Ok(fuse)
    }

    fn probe(&self, probe: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
        let directory = self.temporary();
        let result = probe(&directory);
        result.and(tree::remove(&directory).map_err(|error| error.to_string()))
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("snapshots").join(format!("new-{}", &id::new()[..16]))
    }

    /// Directory of an unpacked layer, relative to the store's root.
    fn relative(diff_id: &str) -> PathBuf {
        Path::new("snapshots").join(diff_id.trim_start_matches("sha256:"))
    }

    /// Is the layer there?
    pub(crate) fn has(&self, diff_id: &str) -> bool {
        self.root.join(Self::relative(diff_id)).is_dir()
    }

    /// Unpacks a layer from its uncompressed archive, unless it is there. It is visible only when it is whole and its
    /// digest is `diff_id`.
    pub(crate) fn unpack(&self, diff_id: &str, archive: impl Read) -> Result<(), Error> {
        if self.has(diff_id) {
            return Ok(());
        }
        let temporary = self.temporary();
        fs::create_dir(&temporary).map_err(io_error(format!("create {}", temporary.display())))?;
        let result = set_mode(&temporary, 0o755).and_then(|()| unpack::unpack(archive, &temporary)).and_then(|found| {
            if found != diff_id {
                return Err(Error::Digest { expected: diff_id.to_owned(), found });
            }
            let place = self.root.join(Self::relative(diff_id));
            match fs::rename(&temporary, &place) {
                // Another image's pull was faster with the same layer.
                Err(_) if self.has(diff_id) => tree::remove(&temporary).map_err(io_error("remove layer")),
                renamed => renamed.map_err(io_error(format!("rename to {}", place.display()))),
            }
        });
        if result.is_err() {
            // The first error is the one to report.
            let _ = tree::remove(&temporary);
        }
        result
    }

    /// Makes a layer from directories and files of ours (for the image made of the binary), under a name of its own.
    pub(crate) fn build(&self, diff_id: &str, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), Error> {
        if self.has(diff_id) {
            return Ok(());
        }
        let temporary = self.temporary();
        let place = self.root.join(Self::relative(diff_id));
        fs::create_dir(&temporary)
            .and_then(|()| fill(&temporary))
            .and_then(|()| fs::rename(&temporary, &place))
            .map_err(io_error(format!("build {}", place.display())))
    }

    /// Prepares a container's root file system from layers (bottom first); `container` is its directory relative to
    /// the store's root. `owner`: user and group of the root directory.
    pub(crate) fn prepare(
        &self,
        container: &Path,
        layers: &[String],
        devices: bool,
        binary: Option<PathBuf>,
        owner: Option<(u32, u32)>,
    ) -> Result<RootFilesystem, Error> {
        let lower: Vec<PathBuf> = layers.iter().rev().map(|diff_id| Self::relative(diff_id)).collect();
        let absolute = self.root.join(container);
        let make = |name: &str| {
            let path = absolute.join(name);
            fs::create_dir_all(&path).map_err(io_error(format!("create {}", path.display())))?;
            set_mode(&path, 0o755)
        };
        make("rootfs")?;
        let kind = match self.kind {
            Kind::Overlay => {
                make("upper")?;
                make("work")?;
                if let Some((uid, gid)) = owner {
                    std::os::unix::fs::chown(absolute.join("upper"), Some(uid), Some(gid))
                        .map_err(io_error("change owner of upper directory"))?;
                }
                RootKind::Overlay { lower, upper: container.join("upper"), work: container.join("work") }
            }
            Kind::Fuse(_) if owner.is_some() => {
                return Err(Error::Unavailable {
                    snapshotter: "fuse-overlayfs",
                    detail: "it does not map ids for pods with hostUsers: false".to_owned(),
                    instead: "--snapshotter overlayfs or native",
                });
            }
            Kind::Fuse(_) => {
                for name in ["upper", "work", MERGED] {
                    make(name)?;
                }
                RootKind::Directory { path: container.join(MERGED) }
            }
            Kind::Copy => {
                make("copy")?;
                for layer in lower.iter().rev() {
                    copy::apply(&self.root.join(layer), &absolute.join("copy"))?;
                }
                RootKind::Directory { path: container.join("copy") }
            }
        };
        Ok(RootFilesystem { store: self.root.clone(), kind, devices, binary })
    }

    /// What a read-only view of an image is laid together from, the topmost directory first, relative to the store's root.
    /// `copy`: where a copy goes if the kernel mounts no overlay, relative as well.
    pub(crate) fn view(&self, layers: &[String], copy: &Path) -> Result<Vec<PathBuf>, Error> {
        let lower: Vec<PathBuf> = layers.iter().rev().map(|diff_id| Self::relative(diff_id)).collect();
        if lower.len() == 1 || matches!(self.kind, Kind::Overlay) {
            return Ok(lower);
        }
        let place = self.root.join(copy);
        fs::create_dir_all(&place).map_err(io_error(format!("create {}", place.display())))?;
        for layer in lower.iter().rev() {
            copy::apply(&self.root.join(layer), &place)?;
        }
        Ok(vec![copy.to_owned()])
    }

    /// Mounts a container's root file system where its start looks for it, if it was prepared for a program that serves
    /// it: that program. Once the container has started, [`unmount`] takes the mount away; the container keeps its own.
    pub(crate) fn serve(&self, container: &Path, layers: &[String]) -> Result<Option<Child>, Error> {
        let absolute = self.root.join(container);
        let place = absolute.join(MERGED);
        if !place.is_dir() {
            return Ok(None);
        }
        let fuse = match &self.kind {
            Kind::Fuse(fuse) => fuse.clone(),
            // k3s was started anew with another snapshotter in between.
            _ => FuseOverlayfs::find().map_err(|detail| Error::Unavailable {
                snapshotter: "fuse-overlayfs",
                detail,
                instead: "a new container",
            })?,
        };
        let lower: Vec<PathBuf> = layers.iter().rev().map(|diff_id| Self::relative(diff_id)).collect();
        let (upper, work) = (container.join("upper"), container.join("work"));
        let layers = fuse::Layers { store: &self.root, lower: &lower, upper: &upper, work: &work };
        let served = fuse.mount(&layers, &place, &absolute.join(LOG));
        served.map(Some).map_err(io_error("mount the root file system"))
    }

    /// Removes layers that nothing names any more.
    pub(crate) fn keep_only(&self, used: &std::collections::HashSet<String>) -> Result<(), Error> {
        for entry in fs::read_dir(self.root.join("snapshots")).map_err(io_error("list snapshots"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("new-") && !used.contains(&format!("sha256:{name}")) {
                // Away first, so that a crash in between leaves nothing half there.
                let temporary = self.temporary();
                fs::rename(entry.path(), &temporary).map_err(io_error(format!("rename layer {name}")))?;
                tree::remove(&temporary).map_err(io_error(format!("remove layer {name}")))?;
            }
        }
        Ok(())
    }
}

/// Takes away the mount that [`Snapshots::serve`] made below a container's directory. There being none is fine.
pub(crate) fn unmount(container: &Path) -> std::io::Result<()> {
    mount_table::unmount(&container.join(MERGED))
}

/// What the program that serves a container's root said last.
pub(crate) fn last_words(container: &Path) -> String {
    fuse::last_words(&container.join(LOG))
}

/// The directory in which a container's own files lie, as opposed to its image's.
pub(crate) fn writable(container: &Path) -> PathBuf {
    let copy = container.join("copy");
    if copy.is_dir() { copy } else { container.join("upper") }
}

/// Removes a directory and all in it, also where its modes forbid it.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    tree::remove(path)
}

/// Bytes that the files below a directory take on disk, and how many they are.
pub(crate) fn disk_usage(path: &Path) -> std::io::Result<(u64, u64)> {
    tree::disk_usage(path)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(io_error(format!("set mode of {}", path.display())))
}
