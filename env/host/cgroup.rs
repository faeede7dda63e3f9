//! Where limits of pods can be enforced. Without that pods run all the same.

use super::{Finding, Host};

/// What limits and the numbers of `kubectl top` need.
const NEEDED: &[&str] = &["cpu", "memory", "pids"];
/// What is nice to have.
const WANTED: &[&str] = &["cpuset", "io"];

const NO_LIMITS: &str = "pods run, but limits are not enforced";
const UNIFIED: &str = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line";
const DELEGATE: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io \
                        memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl \
                        daemon-reload; then log in anew";

pub fn findings(host: &Host) -> Vec<Finding> {
    let mounts = host.read("/proc/self/mountinfo").unwrap_or_default();
    match Hierarchy::of(&mounts) {
        Hierarchy::Unified => {
            let mut findings = vec![Finding::pass("hierarchy", "cgroup v2")];
            findings.extend(controllers(host));
            findings
        }
        Hierarchy::Hybrid => {
            vec![Finding::warn("hierarchy", format!("cgroup v1 and v2 (hybrid): {NO_LIMITS}"), UNIFIED)]
        }
        Hierarchy::Old => vec![Finding::warn("hierarchy", format!("cgroup v1: {NO_LIMITS}"), UNIFIED)],
        Hierarchy::None => vec![Finding::warn(
            "hierarchy",
            format!("not mounted: {NO_LIMITS}"),
            "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )],
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    Unified,
    Hybrid,
    Old,
    None,
}

impl Hierarchy {
    /// By the types of file systems in proc_pid_mountinfo(5), where they stand behind a lone dash.
    fn of(mounts: &str) -> Self {
        let kinds = || {
            mounts.lines().filter_map(|line| {
                let (place, rest) = line.split_once(" - ")?;
                Some((place.split(' ').nth(4)?, rest.split(' ').next()?))
            })
        };
        let old = kinds().any(|(_, kind)| kind == "cgroup");
        let unified = kinds().any(|(place, kind)| kind == "cgroup2" && place.starts_with("/sys/fs/cgroup"));
        match (unified, old) {
            (true, false) => Self::Unified,
            (true, true) => Self::Hybrid,
            (false, true) => Self::Old,
            (false, false) => Self::None,
        }
    }
}

/// The controllers of the cgroup that the user may divide: systemd's for the user, or the root's.
fn controllers(host: &Host) -> Vec<Finding> {
    let folder = match host.uid {
        0 => "/sys/fs/cgroup".to_owned(),
        uid => format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"),
    };
    let Some(have) = host.read(&format!("{folder}/cgroup.controllers")) else {
        let what = format!("no cgroup of systemd for user {}: {NO_LIMITS}", host.uid);
        return vec![Finding::warn("delegation", what, "sudo loginctl enable-linger $USER, or log in through systemd")];
    };
    let has = |name: &str| have.split_whitespace().any(|it| it == name);
    let finding = |name: &&str| {
        let mend = if host.is_root() { format!("boot with cgroup_enable={name}") } else { DELEGATE.to_owned() };
        match has(name) {
            true => Finding::pass(format!("controller {name}"), "delegated"),
            false if NEEDED.contains(name) => {
                Finding::warn(format!("controller {name}"), format!("missing: {NO_LIMITS}"), mend)
            }
            false => Finding::warn(format!("controller {name}"), "missing; optional", mend),
        }
    };
    NEEDED.iter().chain(WANTED).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Temporary, is_pass, is_warn};
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 30 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory\n";

    #[test]
    fn the_hierarchy_is_known_by_its_mounts() {
        assert_eq!(Hierarchy::of(V2), Hierarchy::Unified);
        assert_eq!(Hierarchy::of(V1), Hierarchy::Old);
        assert_eq!(
            Hierarchy::of(&format!("{V1}{}", V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))),
            Hierarchy::Hybrid
        );
        assert_eq!(Hierarchy::of("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), Hierarchy::None);
    }

    #[test]
    fn what_is_not_delegated_to_a_user_says_how_to_delegate_it() {
        let mut host = Temporary::new();
        host.host.uid = 1000;
        host.write("/proc/self/mountinfo", V2);
        assert!(is_warn(findings(&host.host).last().unwrap(), "enable-linger"));
        host.write("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers", "memory pids\n");
        let found = findings(&host.host);
        assert!(is_warn(found.iter().find(|it| it.name == "controller cpu").unwrap(), "Delegate=cpu"));
        assert!(is_pass(found.iter().find(|it| it.name == "controller memory").unwrap()));
    }
}
