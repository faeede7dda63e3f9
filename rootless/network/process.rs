//! The process that a driver is: how it is started, and how it ends.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{NetworkError, TAP};
use crate::process::{ProcessId, wait_readable};

/// How long a driver may take to be ready, and an old device to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a driver may take to leave when told to, before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// A program that is to be a driver.
pub(super) struct Program<'a> {
    pub driver: &'static str,
    pub path: &'a Path,
    /// For its output.
    pub log: &'a Path,
}

impl Program<'_> {
    /// Makes room: waits for the end of an earlier driver's device, and removes what that one left at `path`. The state
    /// directory is locked, so nobody serves it.
    ///
    /// # Errors
    /// The device stays, or the file can't be removed.
    pub fn make_room(&self, init: i32, path: Option<&Path>) -> Result<(), NetworkError> {
        await_no_tap(init)?;
        match path.map(fs::remove_file) {
            Some(Err(e)) if e.kind() != ErrorKind::NotFound => Err(self.io("remove what an earlier one left")(e)),
            _ => Ok(()),
        }
    }

    /// Starts it in a session of its own, to be killed with this process.
    ///
    /// # Errors
    /// It cannot be executed.
    ///
    /// # Safety
    /// `in_child` runs in the new process before it becomes the driver: it may make system calls only, and allocate
    /// nothing.
    pub unsafe fn spawn(
        &self,
        arguments: Vec<String>,
        stdin: Stdio,
        mut in_child: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Child, NetworkError> {
        let open = || OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(self.log);
        let log = open().map_err(self.io("open the log"))?;
        let mut command = Command::new(self.path);
        command.args(arguments).stdin(stdin);
        command.stdout(log.try_clone().map_err(self.io("open the log"))?).stderr(log);
        // SAFETY: `detach` makes system calls only, and the caller answers for the rest.
        unsafe { command.pre_exec(move || detach().and_then(|()| in_child())) };
        command.spawn().map_err(self.io("start the program"))
    }

    /// A step for it has failed.
    pub fn io(&self, doing: &'static str) -> impl Fn(io::Error) -> NetworkError + use<> {
        let driver = self.driver;
        move |source| NetworkError::Io { driver, doing, source }
    }
}

/// A started driver. It ends with this process, however that ends.
#[derive(Debug)]
pub struct RunningDriver {
    child: Child,
    log: PathBuf,
    /// The driver ends when this is closed; the kernel closes it even when we are killed.
    _lifeline: OwnedFd,
}

/// By what a driver says that it is ready: a byte, or an end if the driver has ended.
pub(super) trait Readiness: io::Read + AsFd {}
impl<T: io::Read + AsFd> Readiness for T {}

/// A driver that has been started, and may not be ready yet. If this is dropped, it is ended.
pub struct StartingDriver {
    driver: &'static str,
    running: Option<RunningDriver>,
    ready: Box<dyn Readiness>,
    /// What is of no use once it is ready.
    file: Option<PathBuf>,
}

impl StartingDriver {
    /// Of this process, which ends when the other end of `lifeline` is closed.
    pub(super) fn new(
        program: &Program<'_>,
        child: Child,
        lifeline: OwnedFd,
        ready: impl Readiness + 'static,
        file: Option<PathBuf>,
    ) -> Self {
        let running = RunningDriver { child, log: program.log.to_owned(), _lifeline: lifeline };
        Self { driver: program.driver, running: Some(running), ready: Box::new(ready), file }
    }

    /// Returns when the device has its address and the default route.
    ///
    /// # Errors
    /// It has failed, or is not ready in time; its own words are in the error.
    pub fn ready(mut self) -> Result<RunningDriver, NetworkError> {
        let driver = self.driver;
        let io = |doing| move |source| NetworkError::Io { driver, doing, source };
        let in_time = wait_readable(&self.ready, PATIENCE).map_err(io("wait for its readiness"))?;
        let mut byte = [0_u8; 1];
        let said = if in_time { self.ready.read(&mut byte).map_err(io("read its readiness"))? } else { 0 };
        if let Some(file) = self.file.take() {
            fs::remove_file(file).map_err(io("remove the pipe"))?;
        }
        let Some(mut running) = self.running.take() else {
            // Nothing takes it but this and the end.
            return Err(io("wait for its readiness")(ErrorKind::NotFound.into()));
        };
        if said == 1 {
            return Ok(running);
        }
        if !in_time {
            running.child.kill().map_err(io("end what is not ready"))?;
        }
        let status = running.child.wait().map_err(io("wait for its end"))?;
        let output = last_words(&running.log);
        Err(if in_time {
            NetworkError::Failed { driver, status, output }
        } else {
            NetworkError::NotReady { driver, output }
        })
    }
}

impl Drop for StartingDriver {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // It may have ended by itself.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

impl RunningDriver {
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
            Some(fd) => wait_readable(&fd, STOP_PATIENCE)?,
            None => true,
        };
        if !left {
            child.kill()?;
        }
        child.wait().map(drop)
    }
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
fn await_no_tap(init: i32) -> Result<(), NetworkError> {
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
