//! Paths of the container, resolved by the kernel as if its root were `/`, whatever links the image put there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::error::{Context, Error};

/// Links that lead out of the root lead back to it; magic links (`/proc/<pid>/root`) lead nowhere.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// This process's root directory.
pub(super) fn open_root() -> Result<OwnedFd, Error> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open /")
}

/// Opens `path` below `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE)?)
}

/// Fails where `path` leads through a symbolic link. What is not there leads nowhere yet.
pub(super) fn refuse_links(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(root, path, flags, Mode::empty(), RESOLVE | ResolveFlags::NO_SYMLINKS) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::LOOP) => {
            let message = format!("{} of the image is a symbolic link; it must be a directory", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// The whole of a small regular file; `None` if there is none (or something that is not a file).
pub(super) fn read_small(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<String>> {
    use std::io::Read;
    // Non-blocking: the image may have put a FIFO there.
    let file = match open(root, path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(1 << 20).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The directory at `path`, made with its parents if missing.
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut current = open(root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    let mut reached = PathBuf::from("/");
    for component in path.components() {
        let Component::Normal(name) = component else {
            if component == Component::ParentDir {
                reached.push("..");
                current = open(root, &reached, OFlags::PATH | OFlags::DIRECTORY)?;
            }
            continue;
        };
        reached.push(name);
        current = match open(root, &reached, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(&current, name, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open(root, &reached, OFlags::PATH | OFlags::DIRECTORY)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(current)
}

/// The place a mount goes to, made if missing: a directory, or an empty file.
pub(super) fn make_mount_point(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    if directory {
        return make_directory(root, path, Mode::from_raw_mode(0o755));
    }
    match open(root, path, OFlags::PATH) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (parent, name) = split(path)?;
            let parent = make_directory(root, parent, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => open(root, path, OFlags::PATH),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error),
    }
}

/// A symbolic link at `path`; what is there already stays.
pub(super) fn link(root: BorrowedFd<'_>, target: &str, path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let parent = make_directory(root, parent, Mode::from_raw_mode(0o755))?;
    match rustix::fs::symlinkat(target, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Is what `fd` refers to a directory?
pub(super) fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !name.as_bytes().is_empty() => Ok((parent, name)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_out_of_the_root_stay_in_it() {
        let outside = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("escape")).unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        symlink("../../../../etc", directory.path().join("up")).unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();

        make_mount_point(root.as_fd(), Path::new("/up/made"), false).unwrap();
        assert!(directory.path().join("etc/made").is_file());
        // The link's target does not exist inside, so nothing can be made through it, and nothing is made outside.
        assert!(make_directory(root.as_fd(), Path::new("/escape/made"), Mode::from_raw_mode(0o755)).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        make_directory(root.as_fd(), Path::new("/a/../../b/c"), Mode::from_raw_mode(0o755)).unwrap();
        assert!(directory.path().join("b/c").is_dir());
    }

    #[test]
    fn a_fifo_in_place_of_a_file_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&directory.path().join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        assert!(read_small(root.as_fd(), Path::new("passwd")).unwrap().is_none());
    }
}
