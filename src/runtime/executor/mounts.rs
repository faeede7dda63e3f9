//! The mounts of the specification, each by descriptor: source cloned, attributes set, then moved to its place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::error::{Context, Error, Reason};
use super::inside;
use super::layers::{IMAGE, Layers};
use super::users::Users;
use crate::syscall::{MountAttributes, mount_setattr};

/// Mount options sorted by who reads them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    bind: bool,
    recursive: bool,
    /// Owners are seen through the container's user namespace.
    mapped: bool,
    attributes: u64,
    /// Attributes for submounts too (`rro`).
    recursive_attributes: u64,
    propagation: u64,
    recursive_propagation: bool,
    /// For the file system itself.
    data: Vec<(String, Option<String>)>,
}

/// Options that are attributes of the mount; with an `r` before them they are for the mounts below it, too.
const ATTRIBUTES: [(&str, u64); 8] = [
    ("ro", libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW),
];
const PROPAGATIONS: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];
/// The kernel's defaults, or nothing it knows.
#[rustfmt::skip]
const DEFAULTS: [&str; 14] = [
    "rw", "suid", "dev", "exec", "relatime", "atime", "diratime", "symfollow", "defaults", "async", "nomand",
    "norelatime", "nostrictatime", "rrelatime",
];

impl Options {
    fn parse(mount: &Mount) -> Self {
        let mut parsed = Self { bind: mount.typ().as_deref() == Some("bind"), ..Self::default() };
        let find =
            |table: &[(&str, u64)], name: &str| table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        for option in mount.options().iter().flatten() {
            let below = option.strip_prefix('r');
            if option == "bind" || option == "rbind" {
                (parsed.bind, parsed.recursive) = (true, parsed.recursive || option == "rbind");
            } else if option == "idmap" {
                parsed.mapped = true;
            } else if let Some(attribute) = find(&ATTRIBUTES, option) {
                parsed.attributes |= attribute;
            } else if let Some(attribute) = below.and_then(|name| find(&ATTRIBUTES, name)) {
                parsed.recursive_attributes |= attribute;
            } else if let Some(propagation) = find(&PROPAGATIONS, option) {
                parsed.propagation = propagation;
            } else if let Some(propagation) = below.and_then(|name| find(&PROPAGATIONS, name)) {
                (parsed.propagation, parsed.recursive_propagation) = (propagation, true);
            } else if !DEFAULTS.contains(&option.as_str()) {
                parsed.data.push(match option.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (option.clone(), None),
                });
            }
        }
        parsed
    }
}

/// Is it a bind mount of somebody's /dev, where no device is to be made?
pub(super) fn is_the_nodes_dev(mount: &Mount) -> bool {
    mount.destination().components().eq(Path::new("/dev").components()) && Options::parse(mount).bind
}

/// A bind mount's source, cloned from the node, or an image; `None` for other file systems.
pub(super) struct Source(Option<OwnedFd>);

/// Clones the sources of all bind mounts.
pub(super) fn open_sources(mounts: &[Mount], users: Option<&Users>) -> Result<Vec<Source>, Error> {
    mounts.iter().map(|mount| open_source(mount, users)).collect()
}

/// Adds the images. `place`: where they may be mounted for a moment.
pub(super) fn open_images(
    mounts: &[Mount],
    sources: &mut [Source],
    layers: &mut Layers<'_>,
    place: &Path,
) -> Result<(), Error> {
    for (mount, source) in mounts.iter().zip(sources) {
        if mount.typ().as_deref() == Some(IMAGE) {
            source.0 = Some(layers.image(mount, place)?);
        }
    }
    Ok(())
}

fn open_source(mount: &Mount, users: Option<&Users>) -> Result<Source, Error> {
    let options = Options::parse(mount);
    if !options.bind {
        return Ok(Source(None));
    }
    let source = mount.source().as_ref().ok_or_else(|| {
        Error::invalid(format!("mount {}: a bind mount needs a source", mount.destination().display()))
    })?;
    let tree = clone_tree(source, options.recursive).map_err(|error| failed(mount, &error))?;
    match users {
        Some(users) if options.mapped => users.map(tree.as_fd(), source)?,
        None if options.mapped => {
            let destination = mount.destination().display();
            return Err(Error::invalid(format!("mount {destination}: ids can be mapped only for pods")));
        }
        _ => {}
    }
    Ok(Source(Some(tree)))
}

/// A detached copy of the mount at `path` (with the mounts below it, if recursive).
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, path, flags)?)
}

/// Makes one mount below `root`. `or_the_nodes`: where the kernel does not let us make a `/proc` or `/sys`, the container
/// sees the node's.
pub(super) fn mount(root: BorrowedFd<'_>, mount: &Mount, source: Source, or_the_nodes: bool) -> Result<(), Error> {
    let options = Options::parse(mount);
    let result = match source.0 {
        Some(tree) => bind(root, mount.destination(), tree, &options),
        None => file_system(root, mount, &options, or_the_nodes),
    };
    result.map_err(|error| failed(mount, &error))
}

fn failed(mount: &Mount, error: &io::Error) -> Error {
    let source = mount.source().as_deref().unwrap_or(Path::new("none"));
    Error::invalid(format!(
        "error mounting {:?} to rootfs at {:?}: {}",
        source.display().to_string(),
        mount.destination().display().to_string(),
        Reason(error)
    ))
}

fn bind(root: BorrowedFd<'_>, destination: &Path, tree: OwnedFd, options: &Options) -> io::Result<()> {
    let propagation = match options.propagation {
        0 => libc::MS_PRIVATE,
        // The clone is in the peer group of its source already if that is shared.
        libc::MS_SHARED => 0,
        other => other,
    };
    if propagation != 0 {
        mount_setattr(tree.as_fd(), MountAttributes { propagation, recursive: true, ..Default::default() })?;
    }
    for (set, recursive) in [(options.attributes, false), (options.recursive_attributes, true)] {
        if set != 0 {
            // How times of access are kept is one setting of several bits.
            let clear = if set & libc::MOUNT_ATTR__ATIME != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
            mount_setattr(tree.as_fd(), MountAttributes { set, clear, recursive, ..Default::default() })?;
        }
    }
    let directory = inside::is_directory(tree.as_fd())?;
    attach(root, destination, &tree, directory)
}

/// Moves a detached mount to its place below `root`.
pub(super) fn attach(root: BorrowedFd<'_>, destination: &Path, tree: &OwnedFd, directory: bool) -> io::Result<()> {
    let place = inside::make_mount_point(root, destination, directory)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", &place, "", flags)?)
}

fn file_system(root: BorrowedFd<'_>, mount: &Mount, options: &Options, or_the_nodes: bool) -> io::Result<()> {
    let kind = mount.typ().as_deref().unwrap_or("none");
    if matches!(kind, "proc" | "sysfs") {
        // A link would lead masks to another place than the mount, if what it leads to is exchanged in between
        // (CVE-2019-19921, CVE-2023-27561).
        inside::refuse_links(root, mount.destination())?;
    }
    let made = match new_file_system(kind, mount.source().as_deref(), options) {
        // A group this user namespace does not map (a single id, no sub-ids): terminals then belong to the user's own.
        Err(error) if kind == "devpts" && error.raw_os_error() == Some(libc::EINVAL) => {
            let data = options.data.iter().filter(|(key, _)| key != "gid").cloned().collect();
            new_file_system(
                kind,
                None,
                &Options { data, ..Options { attributes: options.attributes, ..Default::default() } },
            )
        }
        made => made,
    };
    let tree = match made {
        Ok(tree) => tree,
        // Who does not own the network namespace may not mount a sysfs (pods on the host's network, rootless), and
        // who does not own the pid namespace may not mount a proc: they see the node's.
        Err(error)
            if or_the_nodes && error.raw_os_error() == Some(libc::EPERM) && (kind == "sysfs" || kind == "proc") =>
        {
            let path = PathBuf::from(if kind == "sysfs" { "/sys" } else { "/proc" });
            let tree = clone_tree(&path, true)?;
            let options = Options { recursive_attributes: options.attributes, ..Options::default() };
            return bind(root, mount.destination(), tree, &options);
        }
        // Who shares the node's IPC namespace but does not own it has its queues, where the node shows them.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && kind == "mqueue" => {
            return match clone_tree(Path::new("/dev/mqueue"), false) {
                Ok(tree) => bind(root, mount.destination(), tree, options),
                Err(_) => Ok(()),
            };
        }
        // No cgroup v2 on this host, or none that may be seen.
        Err(_) if kind == "cgroup" => return Ok(()),
        Err(error) => return Err(error),
    };
    attach(root, mount.destination(), &tree, true)
}

/// A new, detached mount of a file system that needs no device.
fn new_file_system(kind: &str, source: Option<&Path>, options: &Options) -> io::Result<OwnedFd> {
    let kind = if kind == "cgroup" { "cgroup2" } else { kind };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        fsconfig_set_string(context.as_fd(), "source", source)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(context.as_fd(), key.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain((options.attributes | options.recursive_attributes) as u32);
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Mounts over `/proc` what shows the processes of this one's pid namespace. For a mount namespace of one's own.
pub(crate) fn mount_proc() -> Result<(), Error> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    new_file_system("proc", Some(Path::new("proc")), &Options { attributes, ..Options::default() })
        .and_then(|proc| Ok(move_mount(&proc, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?))
        .doing("mount /proc")
}

/// Covers a directory of the node. For a mount namespace of one's own.
pub(crate) fn hide_directory(path: &Path) -> Result<(), Error> {
    empty_directory()
        .and_then(|cover| Ok(move_mount(&cover, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?))
        .doing(format!("hide {}", path.display()))
}

/// Mounts a detached tree at a path of the node, made for it.
pub(crate) fn attach_at(tree: &OwnedFd, place: &Path) -> io::Result<()> {
    if inside::is_directory(tree.as_fd())? {
        std::fs::create_dir(place)?;
    } else {
        std::fs::File::create(place)?;
    }
    Ok(move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// An empty read-only directory.
pub(super) fn empty_directory() -> io::Result<OwnedFd> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    new_file_system("tmpfs", None, &Options { attributes, ..Options::default() })
}

/// Shows the k3s binary at `path`, read-only: the running file itself, so that its pages are shared.
pub(crate) fn attach_binary(root: BorrowedFd<'_>, path: &Path, binary: OwnedFd) -> Result<(), Error> {
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    mount_setattr(binary.as_fd(), MountAttributes { set, propagation: libc::MS_PRIVATE, ..Default::default() })
        .and_then(|()| attach(root, path, &binary, false))
        .doing(format!("mount the k3s binary at {}", path.display()))
}

/// The links every container has in /dev.
pub(super) fn link_devices(root: BorrowedFd<'_>) -> Result<(), Error> {
    for (target, path) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/core"),
        ("pts/ptmx", "/dev/ptmx"),
    ] {
        inside::link(root, target, Path::new(path)).doing(format!("link {path}"))?;
    }
    Ok(())
}

/// Mounts a copy of what is at `from` below `root` over `to`.
pub(super) fn bind_inside(root: BorrowedFd<'_>, from: &Path, to: &Path) -> io::Result<()> {
    let source = inside::open(root, from, OFlags::PATH)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&source, "", flags)?;
    let directory = inside::is_directory(source.as_fd())?;
    attach(root, to, &tree, directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    #[test]
    fn options_go_to_whom_they_are_for() {
        let mount = MountBuilder::default()
            .destination("/data")
            .options(["rbind", "ro", "rslave", "size=1k", "newinstance"].map(String::from))
            .build()
            .unwrap();
        let options = Options::parse(&mount);
        assert!(options.bind && options.recursive && options.recursive_propagation);
        assert_eq!(options.attributes, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(options.propagation, libc::MS_SLAVE);
        assert_eq!(options.data, [("size".to_owned(), Some("1k".to_owned())), ("newinstance".to_owned(), None)]);
    }
}
