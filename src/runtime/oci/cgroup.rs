//! A container's cgroup: version 2, written directly. Where there is none to be had, limits are not enforced, and the
//! log says so.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxResources};

use super::error::{Doing, Error};
use super::journal::Journal;
use crate::cgroup::cpu_weight;

/// Makes the cgroup of `linux.cgroupsPath`, else one called `name` below this process's, with the limits of
/// `linux.resources`. `None`: this host has none for us.
///
/// # Errors
/// [`Error::CgroupInUse`]: the container would share its limits with others, and take them along when it is deleted.
pub(super) fn make(name: &str, linux: &Linux, journal: &Journal) -> Result<Option<PathBuf>, Error> {
    let limits = linux.resources().as_ref().map(limits).unwrap_or_default();
    let given = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if given.is_some_and(|path| path.to_string_lossy().contains(':')) {
        let detail = "linux.cgroupsPath is one of systemd (slice:prefix:name); k3s oci makes cgroups itself";
        return Err(Error::config(detail));
    }
    let unavailable = |reason: &str| {
        if !limits.is_empty() {
            let files: Vec<_> = limits.iter().map(|(file, _)| file.as_str()).collect();
            journal.warn(&format!("not limited: {}: {reason}", files.join(", ")));
        }
        Ok(None)
    };
    let Some((mount, own)) = hierarchy() else { return unavailable("this host has no cgroup v2") };
    let path = match given {
        Some(path) if path.is_absolute() => mount.join(path.strip_prefix("/").unwrap_or(path)),
        Some(path) => own.join(path),
        None => own.join(name),
    };
    if path.components().any(|part| part == std::path::Component::ParentDir) || path == mount {
        return Err(Error::config(format!("linux.cgroupsPath {} is no place for a cgroup", path.display())));
    }
    match make_all(&mount, &path) {
        Ok(()) => {}
        Err(error) if is_refusal(&error) => return unavailable(&format!("{}: {error}", path.display())),
        Err(error) => return Err(error).doing(format!("make cgroup {}", path.display())),
    }
    let processes = std::fs::read_to_string(path.join("cgroup.procs")).doing(format!("read {}", path.display()))?;
    if !processes.is_empty() {
        return Err(Error::CgroupInUse(processes.lines().count()));
    }
    let controllers = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    for (file, value) in &limits {
        let controller = file.split('.').next().unwrap_or_default();
        if !controllers.split_whitespace().any(|known| known == controller) {
            journal.warn(&format!("not limited: {file}: the cgroup has no controller {controller}"));
            continue;
        }
        if let Err(error) = std::fs::write(path.join(file), value) {
            crate::cgroup::remove(&path).doing(format!("remove cgroup {}", path.display()))?;
            return Err(error).doing(format!("write {value} to {file}"));
        }
    }
    Ok(Some(path))
}

/// Where cgroup v2 is mounted, and the cgroup of this process in it.
fn hierarchy() -> Option<(PathBuf, PathBuf)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let is_v2 = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("cgroup2 "));
    let mount = PathBuf::from(table.lines().find(is_v2)?.split(' ').nth(4)?);
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Outside of its cgroup namespace's root it has no path here.
    let own = if own.starts_with("..") { mount.clone() } else { mount.join(own) };
    Some((mount, own))
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

fn make_all(mount: &Path, path: &Path) -> io::Result<()> {
    let mut current = mount.to_owned();
    for part in path.strip_prefix(mount).unwrap_or(path).components() {
        enable_controllers(&current);
        current.push(part);
        match std::fs::create_dir(&current) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // May a process be put there?
    std::fs::File::options().write(true).open(path.join("cgroup.procs")).map(drop)
}

/// Hands down what can be handed down; a limit whose controller is missing is told of.
fn enable_controllers(path: &Path) {
    let all = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    for controller in all.split_whitespace() {
        let _ = std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Files of cgroup v2 and their values. Rules for devices have none: which nodes there are decides.
fn limits(resources: &LinuxResources) -> Vec<(String, String)> {
    let mut limits = Vec::new();
    let mut set = |file: &str, value: String| limits.push((file.to_owned(), value));
    let or_max = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
            set("cpu.weight", cpu_weight(shares).to_string());
        }
        if cpu.quota().is_some() || cpu.period().is_some() {
            let quota =
                cpu.quota().filter(|quota| *quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
            set("cpu.max", format!("{quota} {}", cpu.period().filter(|period| *period > 0).unwrap_or(100_000)));
        }
        for (file, value) in [
            ("cpu.idle", cpu.idle().map(|idle| idle.to_string())),
            ("cpu.max.burst", cpu.burst().map(|burst| burst.to_string())),
            ("cpuset.cpus", cpu.cpus().clone()),
            ("cpuset.mems", cpu.mems().clone()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                set(file, value);
            }
        }
    }
    if let Some(memory) = resources.memory() {
        if let Some(limit) = memory.limit().filter(|limit| *limit != 0) {
            set("memory.max", or_max(limit));
        }
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            // The specification counts memory and swap together, cgroup v2 swap alone.
            let alone = if swap < 0 { swap } else { (swap - memory.limit().unwrap_or(0).max(0)).max(0) };
            set("memory.swap.max", or_max(alone));
        }
        if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
            set("memory.low", or_max(reservation));
        }
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        set("pids.max", or_max(pids.limit()));
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|weight| *weight != 0) {
        // 10 to 1000 as 1 to 10000, by runc's formula.
        set("io.weight", (1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990).to_string());
    }
    if let Some(io) = resources.block_io() {
        for (key, devices) in [
            ("rbps", io.throttle_read_bps_device()),
            ("wbps", io.throttle_write_bps_device()),
            ("riops", io.throttle_read_iops_device()),
            ("wiops", io.throttle_write_iops_device()),
        ] {
            for device in devices.iter().flatten() {
                set("io.max", format!("{}:{} {key}={}", device.major(), device.minor(), device.rate()));
            }
        }
    }
    for page in resources.hugepage_limits().iter().flatten() {
        set(&format!("hugetlb.{}.max", page.page_size()), or_max(page.limit()));
    }
    for (file, value) in resources.unified().iter().flatten() {
        set(file, value.clone());
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_become_files_of_cgroup_v2() {
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "cpu": {"shares": 1024, "quota": 50000, "cpus": "0-1"},
            "memory": {"limit": 1048576, "swap": 3145728, "reservation": -1},
            "pids": {"limit": 7},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "unified": {"memory.high": "1000"},
        }))
        .unwrap();
        let got = limits(&resources);
        let got: Vec<(&str, &str)> = got.iter().map(|(file, value)| (file.as_str(), value.as_str())).collect();
        let want = [
            ("cpu.weight", "39"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0-1"),
            ("memory.max", "1048576"),
            ("memory.swap.max", "2097152"),
            ("memory.low", "max"),
            ("pids.max", "7"),
            ("io.weight", "1"),
            ("io.max", "8:0 rbps=600"),
            ("hugetlb.2MB.max", "0"),
            ("memory.high", "1000"),
        ];
        assert_eq!(got, want);
    }
}
