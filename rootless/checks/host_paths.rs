//! Where the host keeps what is looked at.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::subid::IdKind;

/// Files and programs of the host.
#[derive(Debug, Clone)]
pub struct HostPaths {
    pub passwd: PathBuf,
    pub subuid: PathBuf,
    pub subgid: PathBuf,
    pub nsswitch: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    pub tun: PathBuf,
    /// Where programs are looked for, as `PATH`.
    pub search: Vec<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut search: Vec<PathBuf> = env::split_paths(&path).filter(|p| p.is_absolute()).collect();
        // A user's PATH need not have the sbin directories, nor a unit's any.
        for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
            if !search.iter().any(|p| p == Path::new(dir)) {
                search.push(dir.into());
            }
        }
        Self {
            passwd: "/etc/passwd".into(),
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            proc: "/proc".into(),
            tun: "/dev/net/tun".into(),
            search,
        }
    }
}

impl HostPaths {
    /// The first executable file of this name on the search path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        self.search
            .iter()
            .map(|dir| dir.join(program))
            .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
    }

    pub(crate) fn sysctl(&self, name: &str) -> Option<String> {
        let value = fs::read_to_string(self.proc.join("sys").join(name.replace('.', "/"))).ok()?;
        Some(value.trim().to_owned())
    }

    pub(crate) fn sub_ids(&self, kind: IdKind) -> &Path {
        match kind {
            IdKind::Uid => &self.subuid,
            IdKind::Gid => &self.subgid,
        }
    }
}
