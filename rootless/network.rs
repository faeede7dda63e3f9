//! Network drivers: a program on the host that gives the namespace a way out.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use crate::process::ProcessId;

/// Name of the device a driver makes inside.
pub const TAP: &str = "tap0";

/// How long a driver may take to be ready, and an old device to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a driver may take to leave when told to, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// A way out of the network namespace.
pub trait NetworkDriver {
    /// The program, as it stands in messages.
    fn name(&self) -> &'static str;

    /// Starts it for the network namespace of `init`, and returns once [`TAP`] has its address and
    /// the default route. Its output goes to the file `log`.
    ///
    /// # Errors
    /// It cannot be started, fails, or is not ready in time; its own words are in the error.
    fn start(&self, init: i32, log: &Path) -> Result<RunningDriver, NetworkError>;
}

/// The driver failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot {doing} for the network driver {driver}: {source}")]
    Io { driver: &'static str, doing: &'static str, source: io::Error },
    #[error("network driver {driver} failed ({status}): {output}")]
    Failed { driver: &'static str, status: ExitStatus, output: String },
    #[error("network driver {driver} was not ready within 10 seconds: {output}")]
    NotReady { driver: &'static str, output: String },
    #[error(
        "device {TAP} of an earlier network driver is still in the namespace; end that driver (pgrep -u $(id -u) slirp4netns)"
    )]
    OldDevice,
    #[error("network driver {driver} keeps ending ({times} times within a minute), last: {output}")]
    KeepsEnding { driver: &'static str, times: usize, output: String },
}

/// A started driver. It ends with this process, however that ends.
#[derive(Debug)]
pub struct RunningDriver {
    child: Child,
    /// The driver leaves when this is closed; the kernel closes it even when we are killed.
    _exit: OwnedFd,
}

impl RunningDriver {
    /// Waits for the byte on `ready` with which a driver says that the device is up.
    pub(crate) fn when_ready(
        driver: &'static str,
        mut child: Child,
        ready: io::PipeReader,
        exit: OwnedFd,
        log: &Path,
    ) -> Result<Self, NetworkError> {
        let io = |doing| move |source| NetworkError::Io { driver, doing, source };
        let in_time = crate::process::wait_readable(&ready, PATIENCE).map_err(io("wait for its readiness"))?;
        let mut byte = [0_u8; 1];
        let said = if in_time { io::Read::read(&mut &ready, &mut byte).map_err(io("read its readiness"))? } else { 0 };
        if said == 1 {
            return Ok(Self { child, _exit: exit });
        }
        if !in_time {
            child.kill().map_err(io("end what is not ready"))?;
        }
        let status = child.wait().map_err(io("wait for its end"))?;
        let output = last_words(log);
        Err(if in_time {
            NetworkError::Failed { driver, status, output }
        } else {
            NetworkError::NotReady { driver, output }
        })
    }

    /// Its pid on the host.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// `waitpid(2)` failed.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it, and returns when it is gone.
    ///
    /// # Errors
    /// It could not be waited for.
    pub fn stop(self) -> io::Result<()> {
        let Self { mut child, _exit } = self;
        let process = ProcessId::of(child.id() as i32).ok();
        drop(_exit);
        let pidfd = process.and_then(|p| p.open().ok().flatten());
        let left = match pidfd {
            Some(fd) => crate::process::wait_readable(&fd, STOP_PATIENCE)?,
            None => true,
        };
        if !left {
            child.kill()?;
        }
        child.wait().map(drop)
    }
}

/// Waits until the device of an earlier driver is gone. The kernel removes it when that driver's
/// last descriptor is closed, which may be a moment after the driver was killed.
pub(crate) fn await_no_tap(init: i32) -> Result<(), NetworkError> {
    let deadline = Instant::now() + PATIENCE;
    while has_tap(init) {
        if Instant::now() > deadline {
            return Err(NetworkError::OldDevice);
        }
        // There is nothing outside the namespace that could be awaited for this.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// `/proc/PID/net` shows the namespace of that process, and needs no privilege over it.
fn has_tap(init: i32) -> bool {
    let devices = fs::read_to_string(format!("/proc/{init}/net/dev")).unwrap_or_default();
    devices.lines().any(|line| line.trim_start().split(':').next() == Some(TAP))
}

/// The end of a driver's log, in one line.
pub(crate) fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).rev().take(5).collect();
    lines.reverse();
    if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") }
}
