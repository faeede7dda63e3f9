//! The container's root: an overlay of image layers, made inside the container's own mount namespace so that it goes
//! with the last process and can't leak.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
    unmount,
};
use serde::{Deserialize, Serialize};

use super::error::{Context, Error};
use super::layers::Layers;
use super::mounts::clone_tree;
use super::users::Users;
use crate::syscall::{MountAttributes, mount_setattr};

/// How a container's root file system is put together; `rootfs.json` in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFilesystem {
    /// The paths below are relative to it, which keeps them below the 256 bytes that `fsconfig` takes.
    pub store: PathBuf,
    pub kind: RootKind,
    /// Device nodes in it work (privileged containers).
    pub devices: bool,
    /// Where the k3s binary is seen, for images made of it.
    pub binary: Option<PathBuf>,
}

/// Overlay where the kernel can, a copy where not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootKind {
    /// Lower directories from the topmost down.
    Overlay {
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
    },
    Directory {
        path: PathBuf,
    },
    /// A directory that somebody else has made, with what is mounted below it (a bundle's root).
    Tree {
        path: PathBuf,
    },
}

/// Mounts made from now on stay in this mount namespace; those of the node still arrive.
pub(crate) fn become_slave() -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing("make mounts slaves of the node's")
}

/// The layout's paths hold from now on.
pub(super) fn enter_store(layout: &RootFilesystem) -> Result<(), Error> {
    std::env::set_current_dir(&layout.store).doing(format!("chdir to {}", layout.store.display()))
}

/// Mounts the root file system on `place` and returns its root.
pub(crate) fn mount(layout: &RootFilesystem, place: &Path) -> Result<OwnedFd, Error> {
    enter_store(layout)?;
    let mount = make(layout, None, &mut Layers::new(None))?;
    attach(&mount, place)?;
    Ok(mount)
}

/// The root file system, detached.
pub(super) fn make(layout: &RootFilesystem, users: Option<&Users>, layers: &mut Layers<'_>) -> Result<OwnedFd, Error> {
    let mount = match &layout.kind {
        RootKind::Overlay { lower, upper, work } => {
            layers.map(lower)?;
            overlay(lower, Some((upper, work)))?
        }
        RootKind::Directory { path } => {
            let mount = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .doing(format!("clone root {}", path.display()))?;
            if let Some(users) = users {
                users.map(mount.as_fd(), path)?;
            }
            mount
        }
        RootKind::Tree { path } => clone_tree(path, true).doing(format!("clone root {}", path.display()))?,
    };
    let nodev = if layout.devices { 0 } else { libc::MOUNT_ATTR_NODEV };
    mount_setattr(
        mount.as_fd(),
        MountAttributes { set: nodev, propagation: libc::MS_PRIVATE, ..MountAttributes::default() },
    )
    .doing("set attributes of the root mount")?;
    Ok(mount)
}

/// Mounts it where it is until it is entered.
pub(super) fn attach(mount: &OwnedFd, place: &Path) -> Result<(), Error> {
    move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(format!("mount root on {}", place.display()))
}

/// A detached overlay of `lower` (topmost first), writable into `upper` with its scratch directory. Extended
/// attributes are `user.overlay.*`, which work in a user namespace and out of it, so that snapshots serve both.
pub(crate) fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<OwnedFd, Error> {
    match overlay_by_context(lower, upper) {
        // Before Linux 6.5 there is no `lowerdir+`, and all lower directories must fit in one string of 256 bytes.
        Err(Error::Step { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
            let joined = lower.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(std::ffi::OsStr::new(":"));
            overlay_with(upper, |context| fsconfig_set_string(context, "lowerdir", &joined))
        }
        result => result,
    }
}

fn overlay_by_context(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<OwnedFd, Error> {
    overlay_with(upper, |context| lower.iter().try_for_each(|path| fsconfig_set_string(context, "lowerdir+", path)))
}

fn overlay_with(
    upper: Option<(&Path, &Path)>,
    set_lower: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> Result<OwnedFd, Error> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing("open overlay file system")?;
    set_lower(context.as_fd()).doing("set lower directories of overlay")?;
    if let Some((upper, work)) = upper {
        fsconfig_set_string(context.as_fd(), "upperdir", upper).doing("set upper directory of overlay")?;
        fsconfig_set_string(context.as_fd(), "workdir", work).doing("set work directory of overlay")?;
    }
    fsconfig_set_flag(context.as_fd(), "userxattr").doing("set userxattr of overlay")?;
    fsconfig_create(context.as_fd()).doing("create overlay")?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).doing("mount overlay")
}

/// Makes `root` this process's root and lets go of the node's. `propagation`: as `linux.rootfsPropagation` has it.
pub(super) fn enter(root: OwnedFd, readonly: bool, propagation: Option<&str>) -> Result<(), Error> {
    if readonly {
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
        mount_setattr(root.as_fd(), attributes).doing("make root read-only")?;
    }
    if let Some(propagation) = propagation {
        let recursive = propagation.starts_with('r');
        let kind = match propagation.trim_start_matches('r') {
            "private" => libc::MS_PRIVATE,
            "slave" => libc::MS_SLAVE,
            "shared" => libc::MS_SHARED,
            "unbindable" => libc::MS_UNBINDABLE,
            _ => return Err(Error::invalid(format!("rootfsPropagation {propagation:?} is not known"))),
        };
        let attributes = MountAttributes { propagation: kind, recursive, ..MountAttributes::default() };
        mount_setattr(root.as_fd(), attributes).doing(format!("make root {propagation}"))?;
    }
    rustix::process::fchdir(&root).doing("chdir to root")?;
    drop(root);
    // Both names are the same directory: the old root ends up mounted over the new one and is taken away from there.
    rustix::process::pivot_root(".", ".").doing("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).doing("unmount the node's root")?;
    rustix::process::chdir("/").doing("chdir to /")
}
