//! Image layers laid over one another, their ids mapped for pods with a user namespace of their own.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use super::error::{Context, Error};
use super::mounts::clone_tree;
use super::rootfs::overlay;
use super::users::Users;

/// Type of a mount that shows an image. Its options: `lowerdir+=` for each layer from the topmost down, relative to the
/// store, and `subpath=` for a path in it.
pub(crate) const IMAGE: &str = "image";
pub(crate) const LAYER: &str = "lowerdir+=";
pub(crate) const SUB_PATH: &str = "subpath=";

/// The layers of a container, by paths relative to the store, which is the working directory.
pub(crate) struct Layers<'a> {
    users: Option<&'a Users>,
    /// Mapped already: a layer can be below several images, or twice below one.
    mapped: HashSet<PathBuf>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(users: Option<&'a Users>) -> Self {
        Self { users, mapped: HashSet::new() }
    }

    /// Covers layers with mapped views of themselves, which an overlay then stands on. For a mount namespace of one's
    /// own whose mounts don't get out.
    pub(super) fn map(&mut self, layers: &[PathBuf]) -> Result<(), Error> {
        let Some(users) = self.users else { return Ok(()) };
        for path in layers {
            if self.mapped.insert(path.clone()) {
                let view = clone_tree(path, false).doing(format!("clone layer {}", path.display()))?;
                users.map(view.as_fd(), path)?;
                move_mount(&view, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .doing(format!("cover layer {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// A detached mount of an image, or of a path in it. `place`: where it may be mounted for a moment.
    pub(super) fn image(&mut self, mount: &Mount, place: &Path) -> Result<OwnedFd, Error> {
        let options = mount.options().iter().flatten();
        let layers: Vec<PathBuf> =
            options.clone().filter_map(|option| option.strip_prefix(LAYER)).map(PathBuf::from).collect();
        let sub_path = options.clone().find_map(|option| option.strip_prefix(SUB_PATH)).unwrap_or_default();
        self.map(&layers)?;
        let whole = match layers.as_slice() {
            [] => return Err(Error::invalid(format!("image at {} has no layers", mount.destination().display()))),
            // The kernel lays no single directory over nothing.
            [only] => clone_tree(only, false).doing(format!("clone layer {}", only.display()))?,
            several => overlay(several, None)?,
        };
        if sub_path.is_empty() {
            return Ok(whole);
        }
        // A part can be taken only of what is mounted.
        move_mount(&whole, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing("mount image")?;
        let part = part_of(&whole, sub_path);
        drop(whole);
        unmount(place, UnmountFlags::DETACH).doing("unmount image")?;
        part
    }
}

fn part_of(whole: &OwnedFd, sub_path: &str) -> Result<OwnedFd, Error> {
    let (flags, resolve) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
    let found = openat2(whole, sub_path, flags, Mode::empty(), resolve)
        .doing(format!("open path {sub_path:?} of the image"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&found, "", flags).doing(format!("clone path {sub_path:?} of the image"))
}
