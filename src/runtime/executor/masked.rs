//! Paths hidden from the container or made read-only for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::error::{Context, Error};
use super::{inside, mounts};
use crate::syscall::{MountAttributes, mount_setattr};

const ONTO: MoveMountFlags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// Hides files behind /dev/null and directories behind an empty one. What is not there needs no mask.
pub(super) fn mask(root: BorrowedFd<'_>, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        mask_one(root, Path::new(path)).doing(format!("mask {path}"))?;
    }
    Ok(())
}

fn mask_one(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let Some(place) = open_if_there(root, path)? else { return Ok(()) };
    let cover = if inside::is_directory(place.as_fd())? {
        mounts::empty_directory()?
    } else {
        mounts::clone_tree(Path::new("/dev/null"), false)?
    };
    Ok(move_mount(&cover, "", &place, "", ONTO)?)
}

/// Covers paths with a read-only view of themselves.
pub(super) fn make_readonly(root: BorrowedFd<'_>, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        make_one_readonly(root, Path::new(path)).doing(format!("make {path} read-only"))?;
    }
    Ok(())
}

fn make_one_readonly(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let Some(place) = open_if_there(root, path)? else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let view = open_tree(&place, "", flags)?;
    let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, recursive: true, ..Default::default() };
    mount_setattr(view.as_fd(), attributes)?;
    Ok(move_mount(&view, "", &place, "", ONTO)?)
}

fn open_if_there(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<std::os::fd::OwnedFd>> {
    match inside::open(root, path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
