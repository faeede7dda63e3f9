//! A subtree of cgroups for an ordinary user's pods, and for root's.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bus;
use crate::cgroup::{self, Hierarchy, MOUNT};
use crate::error::NotDelegated;
use crate::subtree::{self, LEAF};

/// A cgroup of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    root: PathBuf,
    /// The service in which the launcher was started, if the cgroup is not its.
    home: Option<PathBuf>,
    /// What could not be found out.
    warning: Option<String>,
}

impl Delegation {
    /// Finds or gets a cgroup, with the process `pid` in its root: namespaces that are made by that process then
    /// have the cgroup as the root of theirs. Call [`Self::settle`] next.
    ///
    /// May speak D-Bus, with threads and sockets of its own: call it in a short-lived process.
    ///
    /// # Errors
    /// Why there is none.
    pub fn acquire(pid: u32) -> Result<Self, NotDelegated> {
        match Hierarchy::find() {
            Hierarchy::Unified => {}
            Hierarchy::Hybrid => return Err(NotDelegated::Hybrid),
            Hierarchy::Missing => return Err(NotDelegated::NoCgroup2 { path: MOUNT.into() }),
        }
        let own = cgroup::of_process(pid).map_err(NotDelegated::Own)?;
        let systemd = Path::new("/run/systemd/system").is_dir();
        // That there is none is no error: a session's processes are in no unit of the user's systemd.
        let (unit, unasked) = match if systemd { bus::unit_of(pid) } else { Ok(None) } {
            Ok(unit) => (unit, None),
            Err(error) => (None, Some(error)),
        };
        let given = match &unit {
            _ if !systemd => cgroup::is_writable(&own).then(|| own.clone()),
            // Not every version of systemd marks what a user's own systemd has delegated.
            Some(unit) if unit.delegated => {
                Some(Path::new(MOUNT).join(&unit.cgroup)).filter(|it| cgroup::is_writable(it))
            }
            _ => marked(&own),
        };
        // A service that leaves its pods running can only be started anew if they are not in its own cgroup.
        let stays =
            |root: &Path| is_service(root) && unit.as_ref().is_some_and(|unit| leaves_processes(&unit.kill_mode));
        match given {
            Some(root) if !stays(&root) => {
                subtree::enter(&root, pid)?;
                let warning = unasked.filter(|_| is_service(&root)).map(|error| unknown_unit(&root, &error));
                Ok(Self { root, home: None, warning })
            }
            given if systemd => match Self::scope(pid, &own) {
                Ok(scope) => Ok(scope),
                Err(error) => {
                    let Some(root) = given else { return Err(error) };
                    subtree::enter(&root, pid)?;
                    let warning = Some(format!(
                        "pods run in the cgroup of the service itself, {}, which can't be started anew before they have ended: {error}",
                        root.display()
                    ));
                    Ok(Self { root, home: None, warning })
                }
            },
            _ => Err(NotDelegated::NoSystemd { path: own }),
        }
    }

    /// A scope of the user's systemd.
    fn scope(pid: u32, own: &Path) -> Result<Self, NotDelegated> {
        // Unique among those that live, since the process does.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let unit = format!("k3s-{pid}-{now}.scope");
        bus::start_scope(&unit, pid).map_err(|source| NotDelegated::Bus { path: own.to_owned(), source })?;
        let root = cgroup::of_process(pid).map_err(NotDelegated::Own)?;
        Ok(Self { root, home: Some(own.to_owned()), warning: None })
    }

    /// Moves the process `pid` to the processes of an earlier start, whose cgroup this was.
    ///
    /// As [`Self::acquire`], to be called in a short-lived process.
    ///
    /// # Errors
    /// The cgroup is gone, or the process may not go there.
    pub fn join(root: &Path, pid: u32) -> Result<Self, NotDelegated> {
        let own = cgroup::of_process(pid).map_err(NotDelegated::Own)?;
        let leaf = root.join(LEAF);
        if own == leaf {
            return Ok(Self { root: root.to_owned(), home: None, warning: None });
        }
        match subtree::move_to(&leaf, pid) {
            Ok(()) => {}
            // The kernel wants rights in what both have above them, which the user lacks in a session.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bus::attach(root, LEAF, pid).map_err(|source| NotDelegated::Join { path: root.to_owned(), source })?
            }
            Err(source) => return Err(NotDelegated::Write { doing: "move into cgroup", path: leaf, source }),
        }
        let home = (!own.starts_with(root)).then_some(own);
        Ok(Self { root: root.to_owned(), home, warning: None })
    }

    /// The cgroup's directory, as the host has it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What whoever runs k3s is to know of it, to be said once.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Moves the processes of the root into the leaf `k3s` and hands the controllers down. Returns those that
    /// pods can have limits of.
    ///
    /// # Errors
    /// The cgroup is not ours after all.
    pub fn settle(&self) -> Result<Vec<String>, NotDelegated> {
        subtree::settle(&self.root)
    }

    /// Moves the process `pid` back to the service it was started in, so that systemd shows it there. Nothing
    /// depends on it, and from a session's scope it is not permitted; whether it was done is returned.
    pub fn go_home(&self, pid: u32) -> bool {
        self.home.as_deref().is_some_and(|home| is_service(home) && subtree::move_to(home, pid).is_ok())
    }
}

/// The cgroup that systemd has delegated, in which `own` is: itself, or its parent where systemd or an earlier start
/// has put us in a leaf.
fn marked(own: &Path) -> Option<PathBuf> {
    let parent = own.parent().filter(|parent| {
        let name = parent.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // That one is delegated to the user's systemd.
        !name.starts_with("user@")
    });
    [Some(own), parent]
        .into_iter()
        .flatten()
        .find(|path| cgroup::is_marked(path) && cgroup::is_writable(path))
        .map(Path::to_owned)
}

fn unknown_unit(root: &Path, error: &bus::BusError) -> String {
    format!(
        "pods run in the cgroup of the service {}; whether that ends with them can't be found out ({error}), and if it does not (KillMode=process), it can't be started anew while they run",
        root.display()
    )
}

fn is_service(cgroup: &Path) -> bool {
    cgroup.extension().is_some_and(|extension| extension == "service")
}

fn leaves_processes(kill_mode: &str) -> bool {
    matches!(kill_mode, "process" | "none")
}

/// The cgroup below which root's pods go: that of the host, or of the container that k3s runs in.
///
/// # Errors
/// Why there is none.
pub fn system_subtree() -> Result<PathBuf, NotDelegated> {
    match Hierarchy::find() {
        Hierarchy::Unified => {}
        Hierarchy::Hybrid => return Err(NotDelegated::Hybrid),
        Hierarchy::Missing => return Err(NotDelegated::NoCgroup2 { path: MOUNT.into() }),
    }
    let root = Path::new(MOUNT);
    // The host's root may have processes and hand controllers down. A container's only looks like a root, and it
    // is known by having a type.
    if root.join("cgroup.type").exists() {
        subtree::settle(root)?
    } else {
        subtree::hand_down(root)?
    };
    Ok(root.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name_and_a_scope_is_none() {
        assert!(is_service(Path::new("/sys/fs/cgroup/app.slice/k3s-rootless.service")));
        assert!(!is_service(Path::new("/sys/fs/cgroup/app.slice/run-1.scope")));
    }

    #[test]
    fn why_systemd_could_not_be_asked_is_said() {
        let error = bus::BusError::NoBus { path: "/run/user/7/bus".into() };
        let warning = unknown_unit(Path::new("/sys/fs/cgroup/system.slice/edge.service"), &error);
        assert!(warning.contains("edge.service") && warning.contains("/run/user/7/bus"), "{warning}");
    }

    #[test]
    fn what_a_unit_kills_with_it_need_not_outlive_it() {
        assert!(leaves_processes("process") && leaves_processes("none"));
        assert!(!leaves_processes("control-group") && !leaves_processes("mixed"));
    }

    #[test]
    fn a_hybrid_host_has_no_subtree_and_the_reason_says_how_to_get_one() {
        if Hierarchy::find() == Hierarchy::Unified {
            // There the machine tests say more than this one could.
            return;
        }
        let reason = Delegation::acquire(std::process::id()).unwrap_err().to_string();
        assert!(reason.contains("boot"), "{reason}");
        assert_eq!(system_subtree().unwrap_err().to_string(), reason);
    }
}
