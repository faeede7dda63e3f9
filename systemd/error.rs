//! Why there is no cgroup for pods.

use std::io;
use std::path::PathBuf;

use crate::bus::BusError;

/// Limits of pods cannot be enforced; each reason says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NotDelegated {
    #[error(
        "this host mixes cgroup v1 and v2, and limits need v2 alone; boot it with the kernel parameter systemd.unified_cgroup_hierarchy=1"
    )]
    Hybrid,
    #[error("no cgroup v2 is mounted at {path:?}; boot with systemd, or mount it with: mount -t cgroup2 none {}", path.display())]
    NoCgroup2 { path: PathBuf },
    #[error("cannot find out this process's cgroup: {0}")]
    Own(io::Error),
    #[error(
        "cgroup {path:?} is not delegated to this user, and no systemd runs that could be asked for one; an administrator can hand one over with: mkdir /sys/fs/cgroup/k3s && chown -R USER /sys/fs/cgroup/k3s, and start k3s in it"
    )]
    NoSystemd { path: PathBuf },
    #[error(
        "cgroup {path:?} is not delegated, and the user's systemd gives none: {source}; start k3s by its user unit, or with: systemd-run --user -p Delegate=yes --tty k3s server --rootless"
    )]
    Bus { path: PathBuf, source: BusError },
    #[error(
        "the namespaces of an earlier start run in cgroup {path:?}, which cannot be joined ({source}); end them with k3s-killall.sh and start k3s again"
    )]
    Join { path: PathBuf, source: BusError },
    #[error(
        "the namespaces of an earlier start have no cgroup for pods; one is asked for after all pods have ended (k3s-killall.sh)"
    )]
    EarlierStart,
    #[error("cannot {doing} {path:?}: {source}")]
    Write { doing: &'static str, path: PathBuf, source: io::Error },
}
