//! Network drivers: a program on the host that gives the namespace a way out.

mod none;
pub mod pasta;
pub mod slirp4netns;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::checks::{self, CheckError};
use crate::config::{Config, NetDriver};
use crate::host::NetworkInfo;
use crate::process::ProcessId;
use crate::state::StateDir;

use none::NoDriver;
use pasta::{Pasta, PastaDriver};
use slirp4netns::{Slirp4netns, Slirp4netnsDriver};

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

    /// What it gives the namespace.
    fn network(&self) -> NetworkInfo;

    /// Starts it for the network namespace of `init`, and returns once the device has its address and the default
    /// route. `None` where there is nothing to run.
    ///
    /// # Errors
    /// It cannot be started, fails, or is not ready in time; its own words are in the error.
    fn start(&self, init: i32) -> Result<Option<RunningDriver>, NetworkError>;
}

/// The driver that the configuration names, with all that it needs on the host.
///
/// # Errors
/// Something that it needs is missing.
pub(crate) fn driver(config: &Config, state: &StateDir) -> Result<Box<dyn NetworkDriver>, CheckError> {
    if config.net_driver == NetDriver::None {
        return Ok(Box::new(NoDriver::new(config)));
    }
    checks::tun(&config.host)?;
    checks::cidr(&config.host, config.cidr.network())?;
    Ok(match config.net_driver {
        NetDriver::Pasta => Box::new(PastaDriver::new(Pasta::find(&config.host)?, config, state)),
        _ => Box::new(Slirp4netnsDriver::new(Slirp4netns::find(&config.host)?, config, state)?),
    })
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
        "device {TAP} of an earlier network driver is still in the namespace; find that driver with: pgrep -u $(id -u) -l 'slirp4netns|pasta'"
    )]
    OldDevice,
    #[error("network driver {driver} keeps ending ({times} times within a minute), last: {output}")]
    KeepsEnding { driver: &'static str, times: usize, output: String },
}

/// A started driver. It ends with this process, however that ends.
#[derive(Debug)]
pub struct RunningDriver {
    child: Child,
    log: PathBuf,
    /// The driver ends when this is closed; the kernel closes it even when we are killed.
    _lifeline: OwnedFd,
}

impl RunningDriver {
    /// Waits for the first byte on `ready`, with which a driver says that the device is up.
    fn when_ready(
        driver: &'static str,
        mut child: Child,
        mut ready: impl io::Read + std::os::fd::AsFd,
        lifeline: OwnedFd,
        log: &Path,
    ) -> Result<Self, NetworkError> {
        let io = |doing| move |source| NetworkError::Io { driver, doing, source };
        let in_time = crate::process::wait_readable(&ready, PATIENCE).map_err(io("wait for its readiness"))?;
        let mut byte = [0_u8; 1];
        let said = if in_time { ready.read(&mut byte).map_err(io("read its readiness"))? } else { 0 };
        if said == 1 {
            return Ok(Self { child, log: log.to_owned(), _lifeline: lifeline });
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

    /// Where its output is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
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
        let Self { mut child, _lifeline, .. } = self;
        let process = ProcessId::of(child.id() as i32).ok();
        drop(_lifeline);
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

/// A driver's log, empty.
fn new_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// In the driver's process, before it becomes the driver. Makes system calls only, and allocates nothing.
fn detach() -> io::Result<()> {
    // Its own session, so that an interrupt from the terminal does not cut the network off while
    // the server still ends its work.
    rustix::process::setsid()?;
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    // The first line; joining a user namespace clears it.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
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
