//! Which namespaces a container is in, and getting there.

use std::fs::File;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind, Spec};

use crate::executor::{Context, Error as Failure, become_root, bring_up_loopback, set_sysctl};

use super::error::Error;

/// The namespaces of a specification, each at most once.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    new: Vec<Kind>,
    joined: Vec<(Kind, PathBuf)>,
}

impl Namespaces {
    pub(super) fn of(linux: &Linux) -> Result<Self, Error> {
        let mut found = Self::default();
        for namespace in linux.namespaces().iter().flatten() {
            if found.has(namespace.typ()) {
                return Err(Error::config(format!("linux.namespaces has {} twice", namespace.typ())));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => found.joined.push((namespace.typ(), path.clone())),
                None => found.new.push(namespace.typ()),
            }
        }
        Ok(found)
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.is_new(kind) || self.joined.iter().any(|(known, _)| *known == kind)
    }

    pub(super) fn is_new(&self, kind: Kind) -> bool {
        self.new.contains(&kind)
    }

    /// Flags for `clone3`: namespaces that a process is born into.
    pub(super) fn of_birth(&self) -> libc::c_int {
        let born = [(Kind::Pid, libc::CLONE_NEWPID), (Kind::Mount, libc::CLONE_NEWNS)];
        born.iter().filter(|(kind, _)| self.is_new(*kind)).fold(0, |flags, (_, flag)| flags | flag)
    }

    /// Moves this process into those with a path. The host's rights reach some of them, those of the user namespace
    /// others (a network made for it): what is refused is tried again from there.
    pub(super) fn join(&self) -> Result<(), Failure> {
        let open = |(kind, path): &(Kind, PathBuf)| {
            let file = File::open(path).doing(format!("open {kind} namespace {}", path.display()))?;
            Ok((*kind, file, path.clone()))
        };
        let opened = self.joined.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
        let enter = |kind: Kind, file: &File| setns(file, flag(kind));
        let mut later = Vec::new();
        for (kind, file, path) in opened.iter().filter(|(kind, ..)| *kind != Kind::User) {
            match enter(*kind, file) {
                Err(nix::errno::Errno::EPERM) => later.push((kind, file, path)),
                result => result.doing(format!("join {kind} namespace {}", path.display()))?,
            }
        }
        if let Some((kind, file, path)) = opened.iter().find(|(kind, ..)| *kind == Kind::User) {
            enter(*kind, file).doing(format!("join {kind} namespace {}", path.display()))?;
            become_root()?;
        }
        for (kind, file, path) in later {
            enter(*kind, file).doing(format!("join {kind} namespace {}", path.display()))?;
        }
        Ok(())
    }

    /// Moves this process into a new user namespace, where it has no ids until somebody maps them.
    pub(super) fn unshare_user(&self) -> Result<(), Failure> {
        unshare(CloneFlags::CLONE_NEWUSER).doing("unshare user namespace")?;
        crate::syscall::show_to_ptrace().doing("set dumpable flag")
    }

    /// Makes the other new ones, but those of birth.
    pub(super) fn unshare(&self, spec: &Spec) -> Result<(), Failure> {
        let here = |kind: &&Kind| !matches!(kind, Kind::User | Kind::Pid | Kind::Mount);
        let flags = self.new.iter().filter(here).fold(CloneFlags::empty(), |flags, kind| flags | flag(*kind));
        unshare(flags).doing(format!("unshare {flags:?}"))?;
        let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
        for (clock, offset) in offsets.into_iter().flatten() {
            let line = format!("{clock} {} {}", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            std::fs::write("/proc/self/timens_offsets", &line).doing(format!("set time offset {line}"))?;
        }
        if self.is_new(Kind::Network) {
            bring_up_loopback().doing("bring up lo")?;
        }
        if let Some(name) = spec.hostname() {
            rustix::system::sethostname(name.as_bytes()).doing(format!("set host name {name}"))?;
        }
        if let Some(name) = spec.domainname() {
            rustix::system::setdomainname(name.as_bytes()).doing(format!("set domain name {name}"))?;
        }
        let sysctls = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
        for (name, value) in sysctls.into_iter().flatten() {
            set_sysctl(name, value).doing(format!("set sysctl {name}={value}"))?;
        }
        Ok(())
    }
}

fn flag(kind: Kind) -> CloneFlags {
    // The enumeration has the kernel's values, and the kernel more than the crate's flags.
    CloneFlags::from_bits_retain(kind as libc::c_int)
}
