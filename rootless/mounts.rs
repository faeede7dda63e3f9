//! What the file system looks like inside. Runs once, as the namespaces' init, with all
//! capabilities in them.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change, move_mount,
    open_tree,
};

use crate::config::Bind;
use crate::copy_up::{copy_up_all, is_link_to_original};

const CGROUP: &str = "/sys/fs/cgroup";

/// Paths of a root-owned installation on the same host. Their links are taken away, so that the
/// stack inside makes its own.
const OF_ROOT: [&str; 5] = ["/run/netns", "/run/containerd", "/run/xtables.lock", "/run/k3s", "/run/flannel"];

/// A mount without which nothing works inside.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot make the mounts a slave of the host's: {0}")]
    Propagation(io::Error),
    #[error(
        "cannot mount /proc: {0}; the kernel refuses it where parts of the host's /proc are hidden, as in most containers (Docker: --security-opt systempaths=unconfined)"
    )]
    Proc(io::Error),
    #[error("cannot copy up {path:?}: {source}")]
    CopyUp { path: PathBuf, source: io::Error },
    #[error("cannot show {:?} at {:?}: {source}", bind.source, bind.target)]
    Bind { bind: Bind, source: io::Error },
    #[error("cannot take away {path:?}, which is the host's: {source}")]
    OfRoot { path: PathBuf, source: io::Error },
}

/// Makes all of it. `state_dir` (and so the data directory above it) stays in sight. Returns what
/// the kernel did not permit and the stack can do without.
///
/// # Errors
/// The first mount that is needed and cannot be made.
pub(crate) fn set_up(state_dir: &Path, copy_up_dirs: &[PathBuf], binds: &[Bind]) -> Result<Vec<String>, MountError> {
    let mut warnings = Vec::new();
    // What the host mounts later shows inside; nothing mounted inside shows on the host.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).map_err(|e| MountError::Propagation(e.into()))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", quiet, None).map_err(|e| MountError::Proc(e.into()))?;
    sys(&mut warnings);
    copy_up_all(copy_up_dirs).map_err(|(path, source)| MountError::CopyUp { path, source })?;
    for path in OF_ROOT.map(Path::new) {
        if is_link_to_original(path) && !state_dir.starts_with(path) {
            fs::remove_file(path).map_err(|source| MountError::OfRoot { path: path.to_owned(), source })?;
        }
    }
    for bind in binds {
        if state_dir.starts_with(&bind.target) {
            warnings.push(format!("{:?} stays the host's, since the data directory lies in it", bind.target));
            continue;
        }
        show(bind).map_err(|source| MountError::Bind { bind: bind.clone(), source })?;
    }
    kernel_log(&mut warnings);
    // Pods ask for mount propagation among themselves (HostToContainer, Bidirectional), which
    // needs shared mounts. Being a slave of the host's as well, they still pass nothing out.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).map_err(|e| MountError::Propagation(e.into()))?;
    Ok(warnings)
}

/// sysfs of the new network namespace, and cgroup v2 as seen from the new cgroup namespace.
fn sys(warnings: &mut Vec<String>) {
    let hosts = open_tree(
        CWD,
        CGROUP,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    );
    let unified = is_cgroup2(Path::new(CGROUP));
    let hybrid = is_cgroup2(&Path::new(CGROUP).join("unified"));
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let anew = mount("sysfs", "/sys", "sysfs", quiet, None);
    if let Err(e) = anew {
        warnings.push(format!("cannot mount /sys anew ({e}): it shows the host's network devices"));
    }
    let cgroup = if unified {
        mount("cgroup2", CGROUP, "cgroup2", quiet, None).map_err(io::Error::from)
    } else if hybrid {
        hybrid_cgroup(quiet)
    } else {
        Ok(())
    };
    if let Err(e) = cgroup {
        warnings.push(format!("cannot mount cgroup v2 anew ({e}): {CGROUP} shows the host's"));
        // Where /sys could not be mounted anew, the host's hierarchy still lies in place.
        if let (Ok(()), Err(e)) = (anew, put_back(hosts)) {
            warnings.push(format!("cannot show the host's {CGROUP} either: {e}"));
        }
    }
}

/// On a hybrid host the v1 controllers are root's, so that only v2 is of use inside.
fn hybrid_cgroup(quiet: MountFlags) -> io::Result<()> {
    mount("tmpfs", CGROUP, "tmpfs", quiet, c"mode=755")?;
    let unified = Path::new(CGROUP).join("unified");
    fs::create_dir(&unified)?;
    Ok(mount("cgroup2", &unified, "cgroup2", quiet, None)?)
}

fn put_back(tree: rustix::io::Result<OwnedFd>) -> io::Result<()> {
    Ok(move_mount(&tree?, c"", CWD, CGROUP, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn show(bind: &Bind) -> io::Result<()> {
    let private_dir = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    private_dir(&bind.source)?;
    if is_link_to_original(&bind.target) {
        fs::remove_file(&bind.target)?;
    }
    private_dir(&bind.target)?;
    Ok(mount_bind(&bind.source, &bind.target)?)
}

/// Components that follow the kernel's log must be able to open it; with `kernel.dmesg_restrict`
/// an ordinary user may not.
fn kernel_log(warnings: &mut Vec<String>) {
    let kmsg = "/dev/kmsg";
    if File::open(kmsg).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
        && let Err(e) = mount_bind("/dev/null", kmsg)
    {
        warnings.push(format!("{kmsg} cannot be read, nor hidden: {e}"));
    }
}
