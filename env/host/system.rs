//! Kernel, clock, disk and limits.

use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

use super::{Finding, Host, nearest_folder};

/// The mount API, `openat2`, overlayfs in user namespaces, `clone3` into a cgroup.
const KERNEL: (u32, u32) = (5, 11);
/// 2024-01-01: a clock before that is one that nobody has set, and no certificate is valid by it.
const NOT_BEFORE: Duration = Duration::from_secs(1_704_067_200);
const GIB: u64 = 1 << 30;

pub fn findings(host: &Host) -> Vec<Finding> {
    vec![kernel(host), time(SystemTime::now()), disk(host), keys(host), inotify(host)]
}

fn kernel(host: &Host) -> Finding {
    let release = &host.release;
    if host.kernel_version() >= KERNEL {
        return Finding::pass("kernel", release);
    }
    let (major, minor) = KERNEL;
    Finding::fail(
        "kernel",
        format!("{release} is older than {major}.{minor}"),
        "install a newer kernel of your distribution",
    )
}

fn time(now: SystemTime) -> Finding {
    match now.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since >= NOT_BEFORE => Finding::pass("time", "set"),
        _ => Finding::fail("time", "the clock is not set", "sudo timedatectl set-ntp true"),
    }
}

fn disk(host: &Host) -> Finding {
    let folder = nearest_folder(&host.data_dir);
    let name = format!("disk of {}", host.data_dir.display());
    let stat = match statvfs(folder) {
        Ok(stat) => stat,
        Err(error) => return Finding::warn(name, format!("cannot look at {}: {error}", folder.display()), ""),
    };
    let free = stat.blocks_available() * stat.fragment_size();
    let said = format!("{}.{} GiB free", free / GIB, free % GIB * 10 / GIB);
    let mend = "free space, or choose another disk by --data-dir";
    match free / GIB {
        0 => Finding::fail(name, said, mend),
        1..4 => Finding::warn(name, said, mend),
        _ => Finding::pass(name, said),
    }
}

/// Each container has a session keyring of root's.
fn keys(host: &Host) -> Finding {
    at_least(host, "kernel/keys/root_maxkeys", 10_000, 1_000_000)
}

/// The watches of kubelet and pods count together, per user.
fn inotify(host: &Host) -> Finding {
    at_least(host, "fs/inotify/max_user_instances", 128, 512)
}

fn at_least(host: &Host, path: &str, needed: u64, better: u64) -> Finding {
    let name = path.replace('/', ".");
    match host.read(&format!("/proc/sys/{path}")).and_then(|value| value.parse::<u64>().ok()) {
        Some(value) if value >= needed => Finding::pass(name, value.to_string()),
        Some(value) => {
            Finding::warn(name.clone(), format!("{value} is little"), format!("sudo sysctl -w {name}={better}"))
        }
        None => Finding::warn(name, "unknown", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Temporary, is_fail, is_pass, is_warn};
    use super::*;

    #[test]
    fn an_old_kernel_fails() {
        let mut host = Temporary::new();
        for (release, enough) in
            [("6.1.0-13-amd64", true), ("5.11.0", true), ("5.10.0-28", false), ("4.18.0-513.el8", false)]
        {
            host.host.release = release.to_owned();
            assert_eq!(is_pass(&kernel(&host.host)), enough, "{release}");
        }
    }

    #[test]
    fn a_clock_that_nobody_set_fails() {
        assert!(is_fail(&time(SystemTime::UNIX_EPOCH + Duration::from_secs(60)), "timedatectl"));
        assert!(is_pass(&time(SystemTime::now())));
    }

    #[test]
    fn a_low_limit_says_how_to_raise_it() {
        let host = Temporary::new();
        host.write("/proc/sys/kernel/keys/root_maxkeys", "200\n");
        assert!(is_warn(&keys(&host.host), "sysctl -w kernel.keys.root_maxkeys=1000000"));
        host.write("/proc/sys/kernel/keys/root_maxkeys", "1000000\n");
        assert!(is_pass(&keys(&host.host)));
    }
}
