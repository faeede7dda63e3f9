//! Which cgroups there are, and what is delegated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where cgroups are mounted, by everybody's convention.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// What can be limited, as far as it is of use for pods.
pub const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// How this host has its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// cgroup v2 alone.
    Unified,
    /// v1 controllers, v2 beside them for tracking only or not at all.
    Hybrid,
    /// None where they are expected.
    Missing,
}

impl Hierarchy {
    /// The host's.
    pub fn find() -> Self {
        Self::at(Path::new(MOUNT))
    }

    fn at(mount: &Path) -> Self {
        if is_cgroup2(mount) {
            return Self::Unified;
        }
        let entries = fs::read_dir(mount).is_ok_and(|mut entries| entries.next().is_some());
        if entries { Self::Hybrid } else { Self::Missing }
    }
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The directory of a process's cgroup v2.
pub(crate) fn of_process(pid: u32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is in no cgroup v2"))?;
    Ok(Path::new(MOUNT).join(path.trim_start_matches('/')))
}

/// The path in `/proc/PID/cgroup`: of the line for v2, which has number 0 and no controllers.
fn parse(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// What this cgroup may limit for its children.
///
/// # Errors
/// It is no cgroup v2, or may not be read.
pub fn controllers(cgroup: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(cgroup.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().filter(|name| CONTROLLERS.contains(name)).map(str::to_owned).collect())
}

/// Whether systemd has said that it keeps its hands off what is below: systemd since version 236 marks such a cgroup
/// for root's eyes, since 251 for everybody's.
pub(crate) fn is_marked(cgroup: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0u8; 1];
        rustix::fs::getxattr(cgroup, *name, &mut value).is_ok_and(|length| length == 1 && value[0] == b'1')
    })
}

/// Whether this process may make cgroups here and move processes about.
pub(crate) fn is_writable(cgroup: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let may = |path: PathBuf, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    may(cgroup.to_owned(), Access::WRITE_OK)
        && may(cgroup.join("cgroup.procs"), Access::WRITE_OK)
        && may(cgroup.join("cgroup.subtree_control"), Access::WRITE_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_v2_is_the_one_without_controllers() {
        let hybrid = "9:name=systemd:/a\n4:memory:/b\n0::/user.slice/session-3.scope\n";
        assert_eq!(parse(hybrid), Some("/user.slice/session-3.scope"));
        assert_eq!(parse("1:cpu:/\n"), None);
    }

    #[test]
    fn a_folder_that_is_no_cgroup_file_system_is_hybrid_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Hierarchy::at(folder.path()), Hierarchy::Missing);
        fs::create_dir(folder.path().join("memory")).unwrap();
        assert_eq!(Hierarchy::at(folder.path()), Hierarchy::Hybrid);
    }

    #[test]
    fn controllers_that_are_of_no_use_for_pods_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma misc\n").unwrap();
        assert_eq!(controllers(folder.path()).unwrap(), ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]);
        assert!(controllers(&folder.path().join("nowhere")).is_err());
    }
}
