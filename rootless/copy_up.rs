//! A directory of the host that can be written inside: a tmpfs over it, with a symbolic link for
//! each entry to the original, which is kept beneath at `.host`.
//!
//! What the links lead to is the host's, live and with the host's permissions; what is made or
//! replaced at the top lies in memory and ends with the namespaces.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

/// Where the originals are, in each directory that was copied up.
pub(crate) const ORIGINALS: &str = ".host";

/// Copies the directories up, those below others first: the upper one then links to what was made
/// of the lower.
///
/// # Errors
/// With the directory it happened to.
pub(crate) fn copy_up_all(dirs: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    let mut dirs: Vec<_> = dirs.iter().collect();
    dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    for dir in dirs {
        copy_up(dir).map_err(|e| (dir.clone(), e))?;
    }
    Ok(())
}

fn copy_up(dir: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(dir) {
        // /var/run is a link to /run nearly everywhere, and comes along with it.
        Ok(m) if m.is_symlink() => return Ok(()),
        Ok(m) if !m.is_dir() => return Err(ErrorKind::NotADirectory.into()),
        Ok(m) => m,
        Err(e) if e.kind() == ErrorKind::NotFound && dir == Path::new("/var/run") => return Ok(()),
        Err(e) => return Err(e),
    };
    // With what is mounted in it: in a container that is /etc/resolv.conf, say.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, dir, flags)?;
    let options = std::ffi::CString::new(format!("mode={:o}", metadata.mode() & 0o7777))?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
    let originals = dir.join(ORIGINALS);
    fs::create_dir(&originals)?;
    move_mount(&tree, c"", CWD, &originals, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for entry in fs::read_dir(&originals)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == ORIGINALS {
            continue;
        }
        // A relative link would lead elsewhere from one directory further down.
        let target = if entry.file_type()?.is_symlink() {
            fs::read_link(entry.path())?
        } else {
            Path::new(ORIGINALS).join(&name)
        };
        symlink(target, dir.join(&name))?;
    }
    Ok(())
}

/// Whether this path is only a link to the host's, so that it can be taken away here.
pub(crate) fn is_link_to_original(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.starts_with(ORIGINALS))
}
