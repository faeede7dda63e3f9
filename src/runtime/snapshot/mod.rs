//! Image layers unpacked on disk, each once, and what containers see of them.

mod copy;
mod guard;
mod tree;
mod unpack;

pub(crate) use self::unpack::hex;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::executor::{self, RootFilesystem, RootKind};
use crate::id;

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
}

pub(crate) fn io_error(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}

/// How containers' file systems are made of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Snapshotter {
    /// Laid over one another by the kernel; copied where it can't.
    #[default]
    Overlayfs,
    /// Copied.
    Native,
}

/// Unpacked layers below `<root>/snapshots`, named by diff id.
pub(crate) struct Snapshots {
    root: PathBuf,
    overlay: bool,
}

impl Snapshots {
    /// Opens the store below `root` and finds out whether the kernel mounts overlays here. What a crash left half
    /// unpacked is removed.
    pub(crate) fn open(root: &Path, snapshotter: Snapshotter) -> Result<Self, Error> {
        let directory = root.join("snapshots");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&directory)
            .map_err(io_error(format!("create {}", directory.display())))?;
        let snapshots = Self { root: root.to_owned(), overlay: false };
        for entry in fs::read_dir(&directory).map_err(io_error("list snapshots"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                tree::remove(&entry.path()).map_err(io_error(format!("remove {}", entry.path().display())))?;
            }
        }
        let overlay = match (snapshotter, snapshots.probe()) {
            (Snapshotter::Native, _) => false,
            (Snapshotter::Overlayfs, Ok(())) => true,
            (Snapshotter::Overlayfs, Err(error)) => {
                tracing::warn!(%error, "overlayfs does not work here; containers get copies of their images");
                false
            }
        };
        Ok(Self { overlay, ..snapshots })
    }

    fn probe(&self) -> Result<(), String> {
        let directory = self.temporary();
        for name in ["lower", "upper", "work"] {
            fs::create_dir_all(directory.join(name)).map_err(|error| error.to_string())?;
        }
        let upper = (directory.join("upper"), directory.join("work"));
        let mounted = executor::overlay(&[directory.join("lower")], Some((&upper.0, &upper.1)));
        let result = mounted.map(drop).map_err(|error| error.to_string());
        let removed = tree::remove(&directory).map_err(|error| error.to_string());
        result.and(removed)
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
    /// the store's root.
    pub(crate) fn prepare(
        &self,
        container: &Path,
        layers: &[String],
        devices: bool,
        binary: Option<PathBuf>,
    ) -> Result<RootFilesystem, Error> {
        let lower: Vec<PathBuf> = layers.iter().rev().map(|diff_id| Self::relative(diff_id)).collect();
        let absolute = self.root.join(container);
        let make = |name: &str| {
            let path = absolute.join(name);
            fs::create_dir_all(&path).map_err(io_error(format!("create {}", path.display())))?;
            set_mode(&path, 0o755)
        };
        make("rootfs")?;
        let kind = if self.overlay {
            make("upper")?;
            make("work")?;
            RootKind::Overlay { lower, upper: container.join("upper"), work: container.join("work") }
        } else {
            make("copy")?;
            for layer in lower.iter().rev() {
                copy::apply(&self.root.join(layer), &absolute.join("copy"))?;
            }
            RootKind::Directory { path: container.join("copy") }
        };
        Ok(RootFilesystem { store: self.root.clone(), kind, devices, binary })
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
