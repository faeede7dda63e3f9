//! `subPath` of volume mounts: a path inside a volume that a container must not be able to point outside of it.

use std::fs::{File, OpenOptions, create_dir_all};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::{Error, mounts};

/// Binds `sub_path` of the volume at `root` to `target`, and returns `target`. The path is resolved by the kernel
/// inside the volume, so that no link leads out, and the bind mount holds what was found: changing the path later
/// changes nothing.
pub(crate) fn bind(root: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, Error> {
    let found = resolve(root, sub_path)?;
    let is_dir = fstat(&found).map_err(|errno| Error::io("inspect", root)(errno.into()))?.st_mode & nix::libc::S_IFMT
        == nix::libc::S_IFDIR;
    if mounts::is_mount_point(target)? {
        umount2(target, MntFlags::MNT_DETACH).map_err(|errno| Error::io("unmount", target)(errno.into()))?;
    }
    if is_dir {
        create_dir_all(target).map_err(Error::io("create", target))?;
    } else {
        if let Some(parent) = target.parent() {
            create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        File::options().create(true).append(true).open(target).map_err(Error::io("create", target))?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| Error::io("bind sub path to", target)(errno.into()))?;
    Ok(target.to_owned())
}

/// Opens `sub_path` below `root`, making folders that are not there.
fn resolve(root: &Path, sub_path: &str) -> Result<OwnedFd, Error> {
    let invalid = |detail| Error::InvalidPath { path: sub_path.to_owned(), detail };
    let path = Path::new(sub_path);
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(invalid("it must be relative and not contain '..'"));
    }
    let top: OwnedFd = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_PATH.bits())
        .open(root)
        .map_err(Error::io("open", root))?
        .into();
    let joined = root.join(path);
    match open_beneath(&top, path) {
        Ok(found) => return Ok(found),
        Err(Errno::ENOENT) => {}
        Err(Errno::EXDEV) => return Err(invalid("it leads out of the volume")),
        Err(errno) => return Err(Error::io("open", &joined)(errno.into())),
    }
    let mut at = top.try_clone().map_err(Error::io("open", root))?;
    let mut done = PathBuf::new();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        match mkdirat(at.as_fd(), part.as_os_str(), Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::io("create", &joined)(errno.into())),
        }
        done.push(part);
        at = open_beneath(&top, &done).map_err(|errno| match errno {
            Errno::EXDEV => invalid("it leads out of the volume"),
            errno => Error::io("open", &joined)(errno.into()),
        })?;
    }
    Ok(at)
}

fn open_beneath(top: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(top, path, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn missing_folders_are_made_and_links_inside_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        resolve(dir.path(), "a/b").unwrap();
        assert!(dir.path().join("a/b").is_dir());
        symlink("a", dir.path().join("link")).unwrap();
        resolve(dir.path(), "link/c").unwrap();
        assert!(dir.path().join("a/c").is_dir());
    }

    #[test]
    fn nothing_leads_out_of_the_volume() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("absolute")).unwrap();
        symlink("../../..", dir.path().join("relative")).unwrap();
        for path in ["..", "../x", "/etc", "absolute", "absolute/x", "relative/etc", "a/../../b"] {
            assert!(resolve(dir.path(), path).is_err(), "{path}");
        }
        assert!(!outside.path().join("x").exists());
    }
}
