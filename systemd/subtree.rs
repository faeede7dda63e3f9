//! A cgroup that is ours: its processes go to a leaf, so that controllers can be handed down to pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup;
use crate::error::NotDelegated;

/// The leaf for everything that is no pod.
pub const LEAF: &str = "k3s";

/// How often processes are moved before giving up: new ones may be forked meanwhile.
const ROUNDS: usize = 20;

/// Moves a process into the root of a subtree, taking back what an earlier run has handed down: with controllers
/// handed down, the kernel lets no process in.
pub(crate) fn enter(root: &Path, pid: u32) -> Result<(), NotDelegated> {
    let write = |source| NotDelegated::Write { doing: "move into cgroup", path: root.to_owned(), source };
    match move_to(root, pid) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        moved => return moved.map_err(write),
    }
    remove_empty(root);
    for name in fs::read_to_string(root.join("cgroup.subtree_control")).map_err(write)?.split_whitespace() {
        fs::write(root.join("cgroup.subtree_control"), format!("-{name}")).map_err(write)?;
    }
    move_to(root, pid).map_err(write)
}

/// Moves all processes of `root` into its leaf and hands its controllers down. Returns those that could be.
pub(crate) fn settle(root: &Path) -> Result<Vec<String>, NotDelegated> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| NotDelegated::Write { doing, path, source }
    };
    let leaf = root.join(LEAF);
    make(&leaf).map_err(failed("make cgroup", &leaf))?;
    for _ in 0..ROUNDS {
        let pids = pids(root).map_err(failed("read the processes of cgroup", root))?;
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            match move_to(&leaf, pid) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                moved => moved.map_err(failed("move a process into cgroup", &leaf))?,
            }
        }
    }
    hand_down(root)
}

/// Lets children use the controllers, one by one: a kernel may refuse one (`cpu` with real-time processes about) and
/// the others are no worse for it.
pub(crate) fn hand_down(root: &Path) -> Result<Vec<String>, NotDelegated> {
    let control = root.join("cgroup.subtree_control");
    let failed = |source| NotDelegated::Write { doing: "hand controllers down in", path: root.to_owned(), source };
    let mut handed = Vec::new();
    let mut last = None;
    for name in cgroup::controllers(root).map_err(failed)? {
        match fs::write(&control, format!("+{name}")) {
            Ok(()) => handed.push(name),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if handed.is_empty() => Err(failed(error)),
        _ => Ok(handed),
    }
}

pub(crate) fn move_to(cgroup: &Path, pid: u32) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())
}

pub(crate) fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn pids(cgroup: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Removes cgroups below that have no processes, deepest first. The kernel refuses those that have some.
fn remove_empty(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    let children: Vec<PathBuf> =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect();
    for child in children {
        remove_empty(&child);
        // What stays is seen by the step that needs it gone.
        let _ = fs::remove_dir(child);
    }
}
