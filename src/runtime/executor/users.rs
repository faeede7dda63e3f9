//! The pod's own user namespace (`hostUsers: false`), as its containers are started in it.
//!
//! What takes the node's rights is done before a process goes in: layers and volumes are mounted with ids mapped, so that
//! files of the node's user 0 are those of the pod's. What is to belong to the pod (`/proc`, `/sys`, `/dev`, its pid and
//! mount namespaces) is made after.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use k3s_cri::IdMappings;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Stdio;
use super::error::{Context, Error};
use crate::shim::protocol::Progress;
use crate::shim::socket;
use crate::syscall::{self, Forked, MountAttributes, mount_setattr};

/// A user namespace, and which ids of the node stand for its own.
pub(crate) struct Users {
    pub namespace: OwnedFd,
    pub mappings: IdMappings,
}

impl Users {
    /// Goes in, as its root. There is no way back.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        setns(&self.namespace, CloneFlags::CLONE_NEWUSER).doing("join the pod's user namespace")?;
        become_root()
    }

    /// The files of a detached mount belong to the pod's users from now on.
    pub(super) fn map(&self, mount: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let users = Some(self.namespace.as_raw_fd());
        mount_setattr(mount, MountAttributes { users, ..MountAttributes::default() }).map_err(|error| {
            let path = path.display();
            match error.raw_os_error() {
                Some(libc::EINVAL) => Error::invalid(format!(
                    "cannot map ids of {path} for a pod with hostUsers: false: its file system does not support id-mapped \
                     mounts; put it on ext4, xfs, btrfs or a tmpfs"
                )),
                Some(libc::EPERM) => Error::invalid(format!(
                    "cannot map ids of {path} for a pod with hostUsers: false: its file system was mounted outside of the \
                     user namespace that k3s runs in; only k3s as root can"
                )),
                _ => Error::Step { doing: format!("map ids of {path}"), source: error },
            }
        })
    }

    /// Pipes belong to the pod's root from now on, so that it can open `/dev/stdout` and give it to another user.
    pub(super) fn own(&self, stdio: &Stdio) -> Result<(), Error> {
        let (uid, gid) = (self.mappings.uids.on_host(0), self.mappings.gids.on_host(0));
        let null = rustix::fs::makedev(1, 3);
        for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
            if rustix::fs::fstat(stream).doing("stat stream")?.st_rdev != null {
                rustix::fs::fchown(stream, uid.map(Uid::from_raw), gid.map(Gid::from_raw)).doing("own stream")?;
            }
        }
        Ok(())
    }
}

/// Becomes root of the user namespace this process is in.
pub(crate) fn become_root() -> Result<(), Error> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("become group 0 of the user namespace")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("become user 0 of the user namespace")
}

/// Goes on in a sibling that is the first process of a new pid namespace; this process tells the shim of it and ends.
pub(super) fn be_born(progress: &OwnedFd) -> Result<(), Error> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).doing("make pipe")?;
    // SAFETY: a child of the shim has a single thread.
    match unsafe { syscall::fork(libc::CLONE_NEWPID | libc::CLONE_PARENT) }.doing("clone3")? {
        Forked::Child => {
            drop(write);
            // The shim must know of this process before it can end.
            match rustix::io::read(&read, &mut [0; 1]) {
                Ok(1) => Ok(()),
                _ => syscall::exit_now(128),
            }
        }
        Forked::Parent { pid, .. } => {
            let told = socket::send(progress.as_fd(), &Progress::Process { pid }, &[])
                .and_then(|()| rustix::io::write(&write, &[1]).map_err(io::Error::from));
            told.doing("report the first process")?;
            syscall::exit_now(0)
        }
    }
}
