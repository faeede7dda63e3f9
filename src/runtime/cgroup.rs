//! Cgroup v2 limits, written directly below the subtree that k3s was given.

use std::io;
use std::path::{Path, PathBuf};

use k3s_cri::LinuxResources;

/// Where pods' cgroups go, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// A directory of the cgroup v2 hierarchy that this process may write to and that has no processes itself.
    Delegated(PathBuf),
    /// There is none: limits are not enforced, for this reason.
    Unavailable(String),
}

/// The subtree and what can be limited in it.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: Option<PathBuf>,
    pub controllers: Vec<String>,
    pub unavailable: Option<String>,
}

/// Controllers of use for pods.
const WANTED: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
/// Without these, limits are not worth the name.
const ESSENTIAL: [&str; 3] = ["cpu", "memory", "pids"];

/// How an administrator hands controllers to ordinary users.
const DELEGATE: &str = "write '[Service]' and 'Delegate=cpu cpuset io memory pids' to \
    /etc/systemd/system/user@.service.d/delegate.conf, run 'systemctl daemon-reload', and log in anew";

impl Cgroups {
    pub(crate) fn open(cgroup: &Cgroup) -> Self {
        let none = |reason: String| Self { root: None, controllers: Vec::new(), unavailable: Some(reason) };
        let root = match cgroup {
            Cgroup::Delegated(root) => root,
            Cgroup::Unavailable(reason) => return none(reason.clone()),
        };
        let available = match std::fs::read_to_string(root.join("cgroup.controllers")) {
            Ok(available) => available,
            Err(error) => return none(format!("read {}/cgroup.controllers: {error}", root.display())),
        };
        let controllers: Vec<String> =
            available.split_whitespace().filter(|name| WANTED.contains(name)).map(str::to_owned).collect();
        let missing: Vec<&str> =
            ESSENTIAL.into_iter().filter(|name| !controllers.iter().any(|known| known == name)).collect();
        let unavailable = (!missing.is_empty())
            .then(|| format!("controllers {} are not delegated to k3s; {DELEGATE}", missing.join(", ")));
        Self { root: Some(root.clone()), controllers, unavailable }
    }

    /// Makes the cgroup at `relative` with its limits. `None` where there are no cgroups to use.
    pub(crate) fn create(&self, relative: &Path, resources: &LinuxResources) -> io::Result<Option<PathBuf>> {
        let Some(root) = &self.root else { return Ok(None) };
        let mut path = root.clone();
        self.enable_controllers(&path);
        let parts: Vec<_> =
            relative.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
        for (index, part) in parts.iter().enumerate() {
            path.push(part);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if index + 1 < parts.len() {
                self.enable_controllers(&path);
            }
        }
        self.limit(&path, resources)?;
        Ok(Some(path))
    }

    /// Writes limits where their controllers are to be had.
    pub(crate) fn limit(&self, cgroup: &Path, resources: &LinuxResources) -> io::Result<()> {
        for (file, value) in limits(resources) {
            let controller = file.split('.').next().unwrap_or_default();
            if self.controllers.iter().any(|known| known == controller) {
                std::fs::write(cgroup.join(&file), &value)
                    .map_err(|error| io::Error::new(error.kind(), format!("write {value} to {file}: {error}")))?;
            }
        }
        Ok(())
    }

    /// Children may use the controllers. Where one can't be handed down, it is missing there, and its limits fail.
    fn enable_controllers(&self, path: &Path) {
        for controller in &self.controllers {
            let _ = std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// Ends what is left in a cgroup and removes it.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let mut result = Ok(());
    // Processes that were killed leave their cgroup a moment later.
    for _ in 0..50 {
        match std::fs::write(path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            _ => {}
        }
        result = std::fs::remove_dir(path);
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            _ => return result,
        }
    }
    result
}

/// Files of cgroup v2 and their values for CRI's limits.
fn limits(resources: &LinuxResources) -> Vec<(String, String)> {
    let mut limits = Vec::new();
    let mut set = |file: &str, value: String| limits.push((file.to_owned(), value));
    if resources.cpu_quota > 0 {
        let period = if resources.cpu_period == 0 { 100_000 } else { resources.cpu_period };
        set("cpu.max", format!("{} {period}", resources.cpu_quota));
    }
    if resources.cpu_shares > 0 {
        set("cpu.weight", cpu_weight(resources.cpu_shares).to_string());
    }
    if resources.memory_limit > 0 {
        set("memory.max", resources.memory_limit.to_string());
        // As Kubernetes has it: a memory limit is one on memory, swap is none unless it is asked for.
        set("memory.swap.max", (resources.memory_swap_limit - resources.memory_limit).max(0).to_string());
    }
    if resources.pids_limit > 0 {
        set("pids.max", resources.pids_limit.to_string());
    }
    if !resources.cpuset_cpus.is_empty() {
        set("cpuset.cpus", resources.cpuset_cpus.clone());
    }
    if !resources.cpuset_mems.is_empty() {
        set("cpuset.mems", resources.cpuset_mems.clone());
    }
    for (size, limit) in &resources.hugepage_limits {
        set(&format!("hugetlb.{size}.max"), limit.to_string());
        // What is reserved counts already, so that a process is refused when it asks, not killed when it writes.
        set(&format!("hugetlb.{size}.rsvd.max"), limit.to_string());
    }
    limits.extend(resources.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    limits
}

/// cgroup v1's shares (2 to 262144) as v2's weight (1 to 10000), by the formula of runc and the kubelet.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cri_limits_become_cgroup_v2_files() {
        let resources = LinuxResources {
            cpu_quota: 50_000,
            cpu_period: 100_000,
            cpu_shares: 1024,
            memory_limit: 1 << 20,
            memory_swap_limit: 3 << 20,
            hugepage_limits: [("2MB".to_owned(), 4 << 20)].into(),
            pids_limit: 7,
            ..LinuxResources::default()
        };
        let got = limits(&resources);
        let got: Vec<(&str, &str)> = got.iter().map(|(file, value)| (file.as_str(), value.as_str())).collect();
        let want = [
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "39"),
            ("memory.max", "1048576"),
            ("memory.swap.max", "2097152"),
            ("pids.max", "7"),
            ("hugetlb.2MB.max", "4194304"),
            ("hugetlb.2MB.rsvd.max", "4194304"),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn a_host_without_controllers_has_no_limits_and_says_why() {
        let cgroups = Cgroups::open(&Cgroup::Delegated("/nowhere".into()));
        assert!(cgroups.create(Path::new("kubepods/pod1"), &LinuxResources::default()).unwrap().is_none());
        assert!(cgroups.unavailable.unwrap().contains("/nowhere"));
    }
}
