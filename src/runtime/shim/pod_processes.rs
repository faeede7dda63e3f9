//! Finding and ending the processes of a container that has no pid namespace of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::syscall;

/// Number of the mount namespace of the process with this `/proc` name. Each container has one of its own.
pub(crate) fn mount_namespace(proc_name: &str) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{proc_name}/ns/mnt"))?.ino())
}

/// Kills every process in a mount namespace, until none is found any more.
pub(super) fn kill_in_mount_namespace(namespace: u64) {
    // A fork bomb may need some rounds; it can't escape, since SIGKILL also ends what was forked in between.
    for _ in 0..100 {
        if kill_once(namespace).unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Kills every process whose root is that of the container with this id, for when the number of its mount namespace is
/// not known or could be another's by now.
pub(crate) fn kill_container(id: &str) {
    let mark = format!("containers/{id}/");
    let is_rooted = |name: &str| {
        let table = std::fs::read_to_string(format!("/proc/{name}/mountinfo"))?;
        Ok(table.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&mark)))
    };
    for _ in 0..100 {
        if kill_where(is_rooted).unwrap_or(0) == 0 {
            return;
        }
    }
}

fn kill_once(namespace: u64) -> io::Result<usize> {
    kill_where(|name| Ok(mount_namespace(name)? == namespace))
}

fn kill_where(belongs: impl Fn(&str) -> io::Result<bool>) -> io::Result<usize> {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // Opened first: the directory stands for this very process, also if its number is used again.
        let Ok(process) = File::open(Path::new("/proc").join(name)) else { continue };
        if belongs(name).unwrap_or(false) && syscall::signal_process(process.as_fd(), libc::SIGKILL).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
}

/// Pid of the process behind a pidfd as `/proc` shows it, which may be another than this process would see.
pub(crate) fn proc_pid(pidfd: impl AsFd) -> io::Result<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Start time of a process in clock ticks after boot: with the pid it names one process for ever.
pub(crate) fn start_time(proc_name: &str) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{proc_name}/stat"))?;
    // The command's name is in parentheses and may contain anything.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let value = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    value.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}
