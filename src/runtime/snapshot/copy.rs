//! Layers laid over one another by copying, where the kernel mounts no overlay.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use super::{Error, io_error, tree};

/// Lays an unpacked layer over what is at `to`. Both are ours alone: no container sees them yet.
pub(super) fn apply(layer: &Path, to: &Path) -> Result<(), Error> {
    copy_children(layer, to).map_err(io_error(format!("copy layer {}", layer.display())))
}

fn copy_children(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    copy_attributes(from, to)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    let there = fs::symlink_metadata(to).ok();
    let merges = kind.is_dir() && there.as_ref().is_some_and(fs::Metadata::is_dir) && !is_opaque(from);
    if let (Some(there), false) = (there, merges) {
        if there.is_dir() { tree::remove(to)? } else { fs::remove_file(to)? }
    }
    if kind.is_dir() {
        if !merges {
            fs::create_dir(to)?;
        }
        return copy_children(from, to);
    }
    if kind.is_char_device() {
        // A whiteout (no other node is in a layer): what it hides is gone now.
        return Ok(());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    }
    if kind.is_fifo() {
        nix::unistd::mkfifo(to, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)?;
    } else {
        fs::copy(from, to)?;
    }
    copy_attributes(from, to)
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    let mut capability = [0; 64];
    if let Ok(length) = rustix::fs::getxattr(from, "security.capability", &mut capability) {
        // As in the layer itself: kept where permitted.
        let _ = rustix::fs::setxattr(to, "security.capability", &capability[..length], rustix::fs::XattrFlags::empty());
    }
    // After the owner, whose change clears the set-user-id bit.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::getxattr(directory, OsStr::new("user.overlay.opaque"), &mut value) == Ok(1) && value == *b"y"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_laid_over_one_another() {
        let store = tempfile::tempdir().unwrap();
        let make = |layer: &str, files: &[(&str, &str)]| {
            for (name, content) in files {
                let path = store.path().join(layer).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            store.path().join(layer)
        };
        let lower = make("lower", &[("a", "lower"), ("gone", "x"), ("kept/x", "lower"), ("opaque/hidden", "x")]);
        let upper = make("upper", &[("a", "upper"), ("kept/y", "upper"), ("opaque/new", "x")]);
        symlink("/etc/passwd", upper.join("link")).unwrap();
        rustix::fs::setxattr(upper.join("opaque"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .unwrap();
        let whiteout = rustix::fs::mknodat(
            rustix::fs::CWD,
            upper.join("gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        );
        whiteout.unwrap();
        let to = store.path().join("to");
        fs::create_dir(&to).unwrap();
        apply(&lower, &to).unwrap();
        apply(&upper, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a")).unwrap(), "upper");
        assert!(!to.join("gone").exists());
        assert!(to.join("kept/x").exists() && to.join("kept/y").exists());
        assert!(!to.join("opaque/hidden").exists() && to.join("opaque/new").exists());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    }
}
