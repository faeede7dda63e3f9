//! Layers laid over one another by the program fuse-overlayfs, where the kernel mounts no overlay.
//!
//! The mount is made here, and the program given its other end as standard input (`/dev/fd/0` in place of a mount point,
//! which libfuse understands since 3.3). So nobody waits for a mount to appear: what is done in it waits for the program.
//! A container takes a copy of the mount into its own mount namespace, and the one made here is taken away again. So the
//! file system lives as long as the container, whoever else is killed, and the program ends with it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use crate::mount_table;

const PROGRAM: &str = "fuse-overlayfs";
const DEVICE: &str = "/dev/fuse";

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FuseOverlayfs(PathBuf);

/// What is laid over one another. Paths are relative to the store, so that they hold no character that would end one in
/// the list of a mount's options.
pub(super) struct Layers<'a> {
    pub store: &'a Path,
    /// The topmost first.
    pub lower: &'a [PathBuf],
    pub upper: &'a Path,
    pub work: &'a Path,
}

impl FuseOverlayfs {
    /// Looks for it on the PATH.
    pub fn find() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|directory| directory.join(PROGRAM)).find(|file| file.is_file());
        found
            .map(Self)
            .ok_or_else(|| format!("{PROGRAM} is not on the PATH; install it (Debian, Fedora: the package {PROGRAM})"))
    }

    /// Mounts at `place` and starts the program, which writes what it has to say to `log`.
    pub fn mount(&self, layers: &Layers<'_>, place: &Path, log: &Path) -> io::Result<Child> {
        let doing = |doing: String| move |error: io::Error| io::Error::new(error.kind(), format!("{doing}: {error}"));
        let device = File::options().read(true).write(true).open(DEVICE).map_err(doing(format!("open {DEVICE}")))?;
        attach(&device, place).map_err(doing(format!("mount {PROGRAM} on {}", place.display())))?;
        let mut options = OsString::from("lowerdir=");
        options.push(layers.lower.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(":".as_ref()));
        for (name, path) in [("upperdir", layers.upper), ("workdir", layers.work)] {
            options.push(format!(",{name}="));
            options.push(path);
        }
        let started = File::create(log).and_then(|log| {
            // It has its own process group: what the terminal of k3s sends is not meant for it.
            Command::new(&self.0)
                .args(["-f", "-o"])
                .arg(options)
                .arg("/dev/fd/0")
                .current_dir(layers.store)
                .stdin(Stdio::from(device))
                .stdout(Stdio::null())
                .stderr(log)
                .process_group(0)
                .spawn()
        });
        started.map_err(|error| {
            // Nobody answers in it. What can't be taken away now is taken away at the next start.
            let _ = mount_table::unmount(place);
            doing(format!("start {}", self.0.display()))(error)
        })
    }

    /// Does it work here? Writes a file through a mount of it in `directory`, which must be empty and goes away.
    pub fn probe(&self, store: &Path, directory: &Path) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir_all(directory.join(name)).map_err(text)?;
        }
        std::fs::write(directory.join("lower/seen"), "").map_err(text)?;
        let relative = directory.strip_prefix(store).unwrap_or(directory);
        let layers = Layers {
            store,
            lower: &[relative.join("lower")],
            upper: &relative.join("upper"),
            work: &relative.join("work"),
        };
        let (place, log) = (directory.join("merged"), directory.join("log"));
        let mut child = self.mount(&layers, &place, &log).map_err(text)?;
        let used = std::fs::metadata(place.join("seen")).and_then(|_| std::fs::write(place.join("made"), ""));
        let unmounted = mount_table::unmount(&place);
        // It ends with its mount, but not where it never answered.
        let _ = child.kill();
        let ended = child.wait();
        used.map_err(|error| format!("{PROGRAM} does not work here: {error}; it says: {}", last_words(&log)))?;
        unmounted.and(ended.map(drop)).map_err(text)?;
        if !directory.join("upper/made").exists() {
            return Err(format!("{PROGRAM} does not write where it should"));
        }
        Ok(())
    }
}

/// Mounts a FUSE file system that whoever has `device` open answers for.
fn attach(device: &File, place: &Path) -> io::Result<()> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let number = device.as_raw_fd().to_string();
    let options = [
        ("source", PROGRAM),
        ("subtype", PROGRAM),
        ("fd", &number),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ];
    for (name, value) in options {
        fsconfig_set_string(context.as_fd(), name, value)?;
    }
    // Every user of a container may use it, as far as modes permit, which the kernel then looks at.
    fsconfig_set_flag(context.as_fd(), "allow_other")?;
    fsconfig_set_flag(context.as_fd(), "default_permissions")?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(move_mount(&mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The end of what the program wrote.
pub(super) fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    // It says this at every start, and it means nothing.
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("unknown argument ignored")).collect();
    match lines.last() {
        Some(line) => (*line).to_owned(),
        None => "nothing".to_owned(),
    }
}
