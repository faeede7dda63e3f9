//! The namespaces' init: process 1 of the pid namespace. It sets up the mounts, then only reaps
//! and, by living, holds all the namespaces, so that pods outlive the server and its launcher.
//!
//! It leaves when it is of no more use: no launcher serves the state directory and no other
//! process lives inside. Ending it ends everything inside ([`crate::killall`]).

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::config::Bind;
use crate::process::ProcessId;
use crate::state::{Lock, StateDir};
use crate::{loopback, mounts};

/// Tells the init that it is one, and by which descriptor it speaks with the launcher.
pub(crate) const FD: &str = "_K3S_ROOTLESS_INIT_FD";

/// The first argument of the init, for whoever looks at a process list.
pub const SUBCOMMAND: &str = "rootless-init";

/// The launcher has mapped the ids.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mapped;

/// What to set up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetUp {
    pub state_dir: PathBuf,
    pub copy_up_dirs: Vec<PathBuf>,
    pub binds: Vec<Bind>,
    /// An address for the loopback device, where no network driver brings a device of its own.
    pub loopback: Option<Ipv4Addr>,
}

/// It is set up, or could not be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub error: Option<String>,
    pub warnings: Vec<String>,
}

/// The launcher has recorded this init: from now on it lives on its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep;

/// Becomes the init if this process was started as one; returns at once otherwise.
pub(crate) fn if_asked() {
    let fd = std::env::var(FD).ok().and_then(|fd| fd.parse::<RawFd>().ok());
    if let Some(fd) = fd.filter(|&fd| fd > 2)
        && std::process::id() == 1
    {
        // SAFETY: the launcher has passed this descriptor on to us alone, and nothing else in this
        // process knows it yet.
        let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(fd) });
        main(channel)
    }
}

/// Never returns. Its exit status is of no meaning: the launcher hears of errors by the channel.
fn main(channel: Channel) -> ! {
    let kept = serve_launcher(&channel);
    drop(channel);
    let code = match kept {
        Ok(Some(set_up)) => i32::from(hold(&set_up.state_dir).is_err()),
        // The launcher is gone before it could record us: nobody would ever find us.
        Ok(None) | Err(_) => 1,
    };
    std::process::exit(code)
}

fn serve_launcher(channel: &Channel) -> io::Result<Option<SetUp>> {
    rustix::io::fcntl_setfd(channel, rustix::io::FdFlags::CLOEXEC)?;
    rustix::thread::set_name(c"k3s-init")?;
    rustix::process::chdir("/")?;
    let Some((set_up, _)) = channel.receive::<SetUp>()? else { return Ok(None) };
    let done = mounts::set_up(&set_up.state_dir, &set_up.copy_up_dirs, &set_up.binds)
        .map_err(|e| e.to_string())
        .and_then(|warnings| {
            let addressed = || set_up.loopback.map_or(Ok(()), loopback::add_address);
            let up = loopback::up().and_then(|()| addressed());
            up.map(|()| warnings).map_err(|e| format!("cannot set up the loopback device: {e}"))
        });
    let (error, warnings) = match done {
        Ok(warnings) => (None, warnings),
        Err(error) => (Some(error), Vec::new()),
    };
    channel.send(&Ready { error, warnings }, None)?;
    let keep = channel.receive::<Keep>()?;
    Ok(keep.map(|_| set_up))
}

/// Reaps until there is nothing left to hold.
///
/// # Errors
/// Before anything runs here, what this needs cannot be had. From then on nothing is an error,
/// since leaving would end every pod.
fn hold(state_dir: &Path) -> io::Result<()> {
    // The launcher's standard output may be a pipe that somebody reads to its end.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    drop(null);

    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let state = StateDir::open(state_dir);
    // Opened once: closing it would look like a launcher's end to the watch below.
    let lock_file = File::options().read(true).write(true).open(state.lock_path())?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(&state.lock_path(), AddWatchFlags::IN_CLOSE_WRITE)?;

    let mut pause = SHORTEST;
    loop {
        reap();
        let no_launcher = flock(&lock_file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if no_launcher {
            if alone() {
                return leave(&state, lock_file);
            }
            // Fails for a bad descriptor only.
            let _ = flock(&lock_file, FlockOperation::Unlock);
        }
        // A launcher's end is an event, and so is that of every process here; but not that of one
        // which entered from outside (the server itself). And the lock is freed a moment after the
        // event. So look again after a while, ever less often.
        let again = no_launcher || pause < Duration::from_secs(1);
        let launcher_ended = await_event(&signals, &watch, again.then_some(pause));
        pause = if launcher_ended { SHORTEST } else { (pause * 2).min(LONGEST) };
    }
}

/// How soon, and how late, to look again whether there is anything left to hold.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(60);

/// Waits for a child's end or a launcher's; true if it was a launcher's.
fn await_event(signals: &SignalFd, watch: &Inotify, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos().into() });
    let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(watch, PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        // The kernel is out of memory for the moment.
        Err(_) => std::thread::sleep(SHORTEST),
    }
    while matches!(signals.read_signal(), Ok(Some(_))) {}
    watch.read_events().is_ok()
}

fn reap() {
    while !matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD | Errno::EINVAL)
    ) {}
}

/// Whether no other process lives in this pid namespace. If that cannot be seen, one may.
fn alone() -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    for entry in entries {
        let Ok(entry) = entry else { return false };
        let pid = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok());
        if pid.is_some_and(|pid| pid != 1) {
            return false;
        }
    }
    true
}

/// With the lock held, so that no launcher can join meanwhile.
fn leave(state: &StateDir, lock: File) -> io::Result<()> {
    let lock = Lock::from(lock);
    // Who comes now finds the lock without a name, and tries again.
    lock.anonymous()?;
    let me = ProcessId::of(1)?;
    // The pid there is the host's. If the directory was made anew, the record is another init's.
    let ours = |other: &ProcessId| (other.start_time, &other.boot_id) == (me.start_time, &me.boot_id);
    let record = state.recorded_init().map_err(io::Error::other)?;
    if record.is_some_and(|r| ours(&r.process)) {
        state.forget_init().map_err(io::Error::other)?;
    }
    Ok(())
}
