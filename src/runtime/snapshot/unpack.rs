//! Unpacking a layer's archive. The archive is not trusted: every path is resolved by the kernel inside the layer's
//! directory, so that neither `..` nor links lead out of it, and no device node is made.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, linkat,
    mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use super::guard::Guard;
use super::{Error, io_error, tree};

/// Prefix of a file that says that a lower layer's file is gone.
const WHITEOUT: &[u8] = b".wh.";
/// File that says that a directory hides the lower layers' one.
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Reads through to `inner` and digests what passes.
struct Digesting<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        Ok(count)
    }
}

/// How much an archive may ask for.
#[derive(Clone, Copy)]
struct Limits {
    /// Entries. Each takes an inode, of which the node has not endlessly many; large images have some 100,000.
    entries: usize,
    /// Bytes of the paths of directories that are kept until the end, to give them their times.
    paths: usize,
}

const LIMITS: Limits = Limits { entries: 4_000_000, paths: 16 << 20 };

/// Unpacks an uncompressed archive into `directory` and returns its digest.
pub(super) fn unpack(archive: impl Read, directory: &Path) -> Result<String, Error> {
    unpack_within(LIMITS, archive, directory)
}

fn unpack_within(limits: Limits, archive: impl Read, directory: &Path) -> Result<String, Error> {
    let root = File::open(directory).map_err(io_error(format!("open {}", directory.display())))?;
    let mut archive = Archive::new(Guard::new(Digesting { inner: archive, digest: Sha256::new() }));
    // Times of directories change with every entry made in them, so they come last.
    let mut directories = Vec::new();
    let mut kept = 0;
    for (index, entry) in archive.entries().map_err(io_error("read archive"))?.enumerate() {
        let mut entry = entry.map_err(io_error("read archive"))?;
        let name = entry.path_bytes().into_owned();
        if index >= limits.entries {
            return Err(bad_entry(&name, format!("a layer may have {} entries at most", limits.entries)));
        }
        let path = clean(&name).map_err(|detail| bad_entry(&name, detail))?;
        extract(root.as_fd(), &path, &mut entry).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => io_error(format!("write {}", path.display()))(error),
            _ => bad_entry(&name, error.to_string()),
        })?;
        kept += name.len();
        // Times don't matter enough to hold more for them.
        if entry.header().entry_type() == EntryType::Directory && kept <= limits.paths {
            directories.push((path, entry.header().mtime().unwrap_or(0)));
        }
    }
    for (path, mtime) in directories.into_iter().rev() {
        if let Ok(Some((parent, name))) = parent_of(root.as_fd(), &path) {
            // Times don't matter enough to fail for.
            let _ = set_time(parent.as_fd(), &name, mtime);
        }
    }
    let mut rest = archive.into_inner().into_inner();
    // The digest is of all bytes, also those after the archive's end.
    io::copy(&mut rest, &mut io::sink()).map_err(io_error("read archive"))?;
    Ok(format!("sha256:{}", hex(&rest.digest.finalize())))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bad_entry(name: &[u8], detail: impl Into<String>) -> Error {
    Error::Entry { entry: String::from_utf8_lossy(name).into_owned(), detail: detail.into() }
}

/// The path below the root. `..` has no place in a layer.
fn clean(name: &[u8]) -> Result<PathBuf, &'static str> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("path leads out of the layer"),
        }
    }
    Ok(path)
}

fn extract<R: Read>(root: BorrowedFd<'_>, path: &Path, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let kind = entry.header().entry_type();
    let Some((parent, name)) = parent_of(root, path)? else {
        // The layer's own root: only its attributes count.
        return set_attributes(root, OsStr::new("."), entry, false);
    };
    if name.as_bytes() == OPAQUE {
        return Ok(rustix::fs::setxattr(proc_path(&parent), "user.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
        return whiteout(parent.as_fd(), hidden);
    }
    match kind {
        EntryType::Directory => make_directory(parent.as_fd(), &name)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(parent.as_fd(), &name)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&parent, &name, flags, Mode::from_raw_mode(0o600))?);
            let written =
                if kind == EntryType::GNUSparse { write_sparse(entry, &file)? } else { io::copy(entry, &mut file)? };
            if written != entry.size() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "archive ends within the file"));
            }
        }
        EntryType::Symlink => {
            clear(parent.as_fd(), &name)?;
            symlinkat(&*link_name(entry)?, &parent, &name)?;
        }
        EntryType::Link => {
            let target = clean(&link_name(entry)?.into_vec()).map_err(invalid)?;
            let Some((from, from_name)) = parent_of(root, &target)? else { return Err(invalid("link to the root")) };
            if target != path {
                clear(parent.as_fd(), &name)?;
                // Without following: a link to a symbolic link is one more name of that link.
                linkat(&from, &from_name, &parent, &name, AtFlags::empty())?;
            }
            // Attributes are those of the file that is there already.
            return Ok(());
        }
        EntryType::Fifo => {
            clear(parent.as_fd(), &name)?;
            mknodat(&parent, &name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        }
        // A node in an image would be a way to the host's devices; containers get theirs from the runtime.
        EntryType::Char | EntryType::Block => return Ok(()),
        // Headers for entries to come, which the reader has dealt with.
        EntryType::XGlobalHeader => return Ok(()),
        _ => return Err(invalid("unknown type of entry")),
    }
    set_attributes(parent.as_fd(), &name, entry, kind == EntryType::Symlink)
}

/// Writes a file that is mostly holes, and leaves them holes. One that is larger than what the file system has left is
/// refused: nobody could fill it, and reading through it would take for ever.
fn write_sparse<R: Read>(entry: &mut Entry<'_, R>, file: &File) -> io::Result<u64> {
    let system = rustix::fs::fstatvfs(file)?;
    if entry.size() > system.f_bavail.saturating_mul(system.f_frsize) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut piece = ZEROS.to_vec();
    let mut position = 0;
    loop {
        let count = entry.read(&mut piece)?;
        if count == 0 {
            break;
        }
        if piece[..count] != ZEROS[..count] {
            file.write_all_at(&piece[..count], position)?;
        }
        position += count as u64;
    }
    file.set_len(position)?;
    Ok(position)
}

fn invalid(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> io::Result<OsString> {
    let name = entry.link_name_bytes().ok_or_else(|| invalid("link without a target"))?;
    Ok(OsString::from_vec(name.into_owned()))
}

/// Parent directory (made if missing) and name of a path; `None` for the root itself.
fn parent_of(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<(OwnedFd, OsString)>> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let parent = path.parent().unwrap_or(Path::new(""));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(root, path, flags, Mode::empty(), RESOLVE)
    };
    let opened = match open(parent) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => {
            let mut reached = PathBuf::new();
            let mut current = open(Path::new("."))?;
            for component in parent.components() {
                reached.push(component);
                current = match open(&reached) {
                    Ok(next) => next,
                    Err(Errno::NOENT) => {
                        mkdirat(&current, component.as_os_str(), Mode::from_raw_mode(0o755))?;
                        open(&reached)?
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            current
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Some((opened, name.to_owned())))
}

/// Overlayfs' own form of a whiteout. The kernel lets everyone make this one node.
fn whiteout(parent: BorrowedFd<'_>, hidden: &[u8]) -> io::Result<()> {
    if hidden.is_empty() || hidden == b"." || hidden == b".." {
        return Err(invalid("whiteout of nothing"));
    }
    match mknodat(parent, OsStr::from_bytes(hidden), FileType::CharacterDevice, Mode::empty(), 0) {
        // What this layer itself puts there wins.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match kind_of(parent, name)? {
        Some(FileType::Directory) => return Ok(()),
        Some(_) => clear(parent, name)?,
        None => {}
    }
    Ok(mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
}

/// Removes what an earlier entry put at this place.
fn clear(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match kind_of(parent, name)? {
        None => Ok(()),
        Some(FileType::Directory) => tree::remove(&proc_path(&parent).join(name)),
        Some(_) => Ok(unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn kind_of(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A name for an open file, for calls that take no descriptor.
fn proc_path(fd: &impl std::os::fd::AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Owner, mode, extended attributes and time, in the order in which one does not undo the other.
fn set_attributes<R: Read>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    entry: &mut Entry<'_, R>,
    symlink: bool,
) -> io::Result<()> {
    let id = |value: io::Result<u64>| value.and_then(|id| u32::try_from(id).map_err(|_| invalid("id out of range")));
    let (uid, gid) = (id(entry.header().uid())?, id(entry.header().gid())?);
    chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW).map_err(
        |error| match error {
            Errno::INVAL => io::Error::other(format!("owner {uid}:{gid} is not mapped in this user namespace")),
            error => error.into(),
        },
    )?;
    let mtime = entry.header().mtime().unwrap_or(0);
    if !symlink {
        // Nobody else can write here: what is opened is what was made.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::empty())?;
        fchmod(&file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
        set_xattrs(&file, entry)?;
    }
    set_time(parent, name, mtime)
}

/// Extended attributes that mean something in a container: file capabilities and the user's own. Overlayfs' own are
/// how layers are described, so an archive may not bring them.
fn set_xattrs<R: Read>(file: &OwnedFd, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let wanted =
            name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay"));
        if !wanted {
            continue;
        }
        match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), extension.value_bytes(), XattrFlags::empty()) {
            // File systems without them, and namespaces that may not grant capabilities.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_time(parent: BorrowedFd<'_>, name: &OsStr, mtime: u64) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use tar::{Builder, Header};

    fn files(count: usize) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for index in 0..count {
            let mut header = Header::new_gnu();
            let directory = index % 2 == 0;
            header.set_entry_type(if directory { EntryType::Directory } else { EntryType::Regular });
            header.set_mode(0o755);
            header.set_mtime(1_700_000_000);
            // Whoever runs the test may own what is unpacked.
            header.set_uid(nix::unistd::geteuid().as_raw().into());
            header.set_gid(nix::unistd::getegid().as_raw().into());
            header.set_size(0);
            builder.append_data(&mut header, format!("entry-{index}"), io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_layer_has_no_more_entries_than_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { entries: 10, ..LIMITS };
        unpack_within(limits, files(10).as_slice(), directory.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let error = unpack_within(limits, files(11).as_slice(), other.path()).unwrap_err();
        assert!(error.to_string().contains("10 entries at most"), "{error}");
    }

    #[test]
    fn times_of_directories_are_kept_as_far_as_they_fit() {
        let directory = tempfile::tempdir().unwrap();
        unpack_within(Limits { paths: 8, ..LIMITS }, files(4).as_slice(), directory.path()).unwrap();
        let time = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().mtime();
        assert_eq!((time("entry-0"), time("entry-1"), time("entry-3")), (1_700_000_000, 1_700_000_000, 1_700_000_000));
    }
}
