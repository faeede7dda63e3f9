//! Waiting for a process in the foreground: its signals, its terminal, its exit code.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::error::{Doing, Error};

/// Signals that are the process's and not ours.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Waits for a child behind `pidfd`, and connects its terminal with this process's streams meanwhile. Returns its exit
/// code: 128 + n when signal n ended it.
pub(super) fn wait(pidfd: &OwnedFd, terminal: Option<OwnedFd>) -> Result<u8, Error> {
    let mask: SigSet = FORWARDED.into_iter().collect();
    mask.thread_block().doing("block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing("signalfd")?;
    let _raw = terminal.as_ref().and_then(|_| Raw::set());
    resize(terminal.as_ref());
    let mut input = terminal.is_some();
    let mut output = terminal.is_some();
    loop {
        let stdin = std::io::stdin();
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        if let Some(terminal) = &terminal {
            fds.push(PollFd::new(terminal, if output { PollFlags::IN } else { PollFlags::empty() }));
            if input {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.doing("wait for the process")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is = |number: usize| ready.get(number).copied().unwrap_or(false);
        if is(1) {
            forward(&signals, pidfd, terminal.as_ref())?;
        }
        if let Some(terminal) = &terminal {
            if output && is(2) {
                output = copy(terminal.as_fd(), std::io::stdout().as_fd());
            }
            if input && is(3) {
                input = copy(stdin.as_fd(), terminal.as_fd());
            }
            if !output && is(2) && !is(0) {
                // Nobody has the terminal open any more; only the process's end is left to wait for.
                rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).doing("wait for the process")?;
            }
        }
        if is(0) {
            if let Some(terminal) = terminal.filter(|_| output) {
                // What it has printed last may still wait. A terminal that others hold open does not end.
                rustix::io::ioctl_fionbio(&terminal, true).doing("set terminal non-blocking")?;
                while copy(terminal.as_fd(), std::io::stdout().as_fd()) {}
            }
            return exit_code(pidfd);
        }
    }
}

fn forward(signals: &SignalFd, pidfd: &OwnedFd, terminal: Option<&OwnedFd>) -> Result<(), Error> {
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = info.ssi_signo as i32;
        if signal == libc::SIGWINCH {
            resize(terminal);
        } else if let Err(error) = super::end::signal(pidfd, signal)
            && !matches!(error, Error::NotRunning)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Copies what is there. `false`: nothing more comes, or nobody takes it.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(from, &mut buffer) {
        Ok(count) if count > 0 => {
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                match rustix::io::write(to, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
            true
        }
        Err(rustix::io::Errno::INTR) => true,
        // A terminal answers EIO when nobody has its other end open.
        Ok(_) | Err(_) => false,
    }
}

fn exit_code(pidfd: &OwnedFd) -> Result<u8, Error> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).doing("wait")?;
    let code = status
        .and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// Gives the process's terminal the size of ours.
fn resize(terminal: Option<&OwnedFd>) {
    if let (Some(terminal), Ok(size)) = (terminal, tcgetwinsize(std::io::stdin())) {
        // A terminal that is gone needs no size.
        let _ = tcsetwinsize(terminal, size);
    }
}

/// Our own terminal hands every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    /// `None`: standard input is no terminal.
    fn set() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal being gone, nothing is to be restored.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
