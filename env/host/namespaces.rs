//! Namespaces, and overlayfs in a user namespace.

use std::process::{Command, Stdio};

use super::{Finding, Host};

const KINDS: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// From this kernel on (March 2021) an ordinary user's namespaces may mount overlayfs.
const OVERLAY_IN_USER_NAMESPACES: (u32, u32) = (5, 11);

pub fn findings(host: &Host) -> Vec<Finding> {
    let mut findings: Vec<_> = KINDS.iter().map(|kind| kind_of(host, kind)).collect();
    findings.push(overlay(host));
    findings
}

fn kind_of(host: &Host, kind: &str) -> Finding {
    let name = format!("{kind} namespaces");
    if host.path("/proc/self/ns").join(kind).symlink_metadata().is_ok() {
        return Finding::pass(name, "present");
    }
    if kind == "user" && host.is_root() {
        return Finding::warn(name, "missing; rootless clusters need them", "boot a kernel with CONFIG_USER_NS");
    }
    Finding::fail(name, "missing", format!("boot a kernel with CONFIG_{}_NS", kind.to_uppercase()))
}

/// Without overlayfs k3s copies images for each container.
fn overlay(host: &Host) -> Finding {
    let known = host.read("/proc/filesystems").unwrap_or_default();
    let loaded = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let slow = "containers' files are copied instead, which takes time and space";
    if host.is_root() {
        return match loaded {
            true => Finding::pass("overlayfs", "present"),
            false => Finding::warn("overlayfs", format!("not loaded; {slow}"), "sudo modprobe overlay"),
        };
    }
    let name = "overlayfs in user namespaces";
    match (loaded, overlay_mounts()) {
        (true, Some(true)) => Finding::pass(name, "works"),
        (true, None) if host.kernel_version() >= OVERLAY_IN_USER_NAMESPACES => Finding::pass(name, "the kernel has it"),
        (false, _) => Finding::warn(
            name,
            format!("not loaded; {slow}"),
            "sudo modprobe overlay (and: echo overlay | sudo tee /etc/modules-load.d/overlay.conf)",
        ),
        (true, _) => Finding::warn(name, format!("the kernel refuses it; {slow}"), "use a kernel from 5.11 on"),
    }
}

/// Mounts an overlay in namespaces that end with the command. `None` if there is no such tool, or no namespaces.
fn overlay_mounts() -> Option<bool> {
    let script = "mount -t tmpfs none /tmp && mkdir /tmp/l /tmp/u /tmp/w /tmp/m || exit 9
        mount -t overlay none -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w,userxattr /tmp/m";
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match unshare.status().ok()?.code()? {
        0 => Some(true),
        32 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Temporary, is_fail, is_pass, is_warn};
    use super::*;

    #[test]
    fn a_kind_that_the_kernel_lacks_fails_but_root_can_do_without_users() {
        let mut host = Temporary::new();
        host.host.uid = 1000;
        for kind in KINDS.iter().filter(|kind| **kind != "user") {
            host.write(&format!("/proc/self/ns/{kind}"), "");
        }
        assert!(is_pass(&kind_of(&host.host, "net")));
        assert!(is_fail(&kind_of(&host.host, "user"), "CONFIG_USER_NS"));
        host.host.uid = 0;
        assert!(is_warn(&kind_of(&host.host, "user"), "CONFIG_USER_NS"));
    }

    #[test]
    fn overlayfs_that_is_not_loaded_is_no_failure() {
        let host = Temporary::new();
        host.write("/proc/filesystems", "nodev\ttmpfs\n\text4\n");
        assert!(is_warn(&overlay(&host.host), "modprobe overlay"));
        host.write("/proc/filesystems", "nodev\toverlay\n\text4\n");
        assert!(is_pass(&overlay(&host.host)));
    }
}
