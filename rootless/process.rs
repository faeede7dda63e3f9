//! Who a process is, in a way that survives the reuse of its pid and a reboot.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process: its pid, when it started, and in which boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// In the pid namespace of whoever wrote it down.
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl ProcessId {
    /// The identity of the process that has this pid now.
    ///
    /// # Errors
    /// `NotFound` when there is none, or when it is a zombie: dead for every purpose here.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (state, start_time) =
            parse_stat(&stat).ok_or_else(|| io::Error::other(format!("cannot parse /proc/{pid}/stat")))?;
        if matches!(state, 'Z' | 'X') {
            return Err(io::ErrorKind::NotFound.into());
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { pid, start_time, boot_id })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// A descriptor of this very process; `None` when it no longer runs.
    ///
    /// # Errors
    /// Whatever `pidfd_open(2)` says besides "no such process".
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // Only after it is open can the pid no longer change hands.
        Ok(self.is_alive().then_some(fd))
    }

    /// Ends it with SIGKILL and waits. True when it ran, false when there was nothing to end.
    ///
    /// # Errors
    /// No permission, or `TimedOut`.
    pub fn kill(&self, timeout: Duration) -> io::Result<bool> {
        let Some(fd) = self.open()? else { return Ok(false) };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
        if wait_readable(&fd, timeout)? { Ok(true) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}

/// Waits until the descriptor is readable or hung up; false after the timeout.
pub(crate) fn wait_readable(fd: &impl std::os::fd::AsFd, timeout: Duration) -> io::Result<bool> {
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// State and start time. The name (field 2) may hold blanks and brackets, so count from its end.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_confuse() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_the_same() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive() && me.open().unwrap().is_some());
        let other = ProcessId { start_time: me.start_time + 1, ..me.clone() };
        assert!(!other.is_alive() && other.open().unwrap().is_none());
        let other = ProcessId { boot_id: "another".into(), ..me };
        assert!(!other.kill(Duration::from_secs(1)).unwrap());
    }

    #[test]
    fn kill_waits_for_the_end() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.kill(Duration::from_secs(10)).unwrap());
        assert!(!id.is_alive(), "a zombie counts as dead");
        child.wait().unwrap();
    }
}
