//! The launcher: the small process on the host that makes or joins the namespaces, starts the
//! network driver and the server, and then serves ports, passes signals on and reaps.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getgid, getuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{info, warn};

use crate::cgroup::{self, Placement};
use crate::channel::Channel;
use crate::checks;
use crate::config::{Config, NetDriver};
use crate::error::Error;
use crate::host::Info;
use crate::init::{self, Keep, Mapped, Ready, SetUp};
use crate::memory;
use crate::namespaces::{self, Program};
use crate::network::{self, NetworkDriver, NetworkError, RunningDriver, StartingDriver, last_words};
use crate::port::{self, PortDriver, PortRequest};
use crate::process::{self, ProcessId};
use crate::state::{InitRecord, StateDir};

/// What is passed on to the server.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// A driver that ends more often than this within a minute will not do.
const DRIVER_RESTARTS: usize = 5;

/// After so long without an event, memory is given back.
const REST: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell has it: the status, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What is done on the host before there are namespaces, such as a move into a cgroup of one's own. It runs with the
/// state directory locked and everything else found to be in order; what it returns are warnings for the server's log.
pub type Before<'a> = dyn FnMut() -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// [`launch_after`] nothing.
///
/// # Errors
/// As [`launch_after`].
pub fn launch(config: &Config, argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Error> {
    launch_after(config, argv, &mut || Ok(Vec::new()))
}

/// Runs this program anew, with these arguments (the first is its name), as root of its own
/// namespaces, and returns when it has ended. Namespaces that an earlier launch on the same state
/// directory left behind, because pods run in them, are joined.
///
/// To be called by an ordinary user, before the process has a second thread. In the new process,
/// [`crate::enter`] finishes the set-up.
///
/// # Errors
/// Something is missing on the host, another launcher serves the state directory, or a step
/// failed; what had been started by then is ended.
pub fn launch_after(
    config: &Config,
    argv: impl IntoIterator<Item = OsString>,
    before: &mut Before<'_>,
) -> Result<Exit, Error> {
    namespaces::single_threaded()?;
    if getuid().is_root() {
        return Err(Error::Root);
    }
    let signals = Signals::block().map_err(|source| Error::Launcher { doing: "block signals", source })?;
    checks::data_dir(&config.host, config.data_dir())?;
    let state = StateDir::create(&config.state_dir)?;
    // Held until the end; the init inside watches for it to be closed.
    let _lock = state.lock()?;
    let notify = cgroup::notify_relay(&config.state_dir);
    let program = Program::itself(argv, environment(notify.as_ref()))?;
    let find_driver = network::look_for(config, &state)?;
    let ports = port::driver(config, &state);
    let warnings = before().map_err(Error::Before)?;

    let (mut namespaces, driver, starting) = match join(&state, config)? {
        Some(namespaces) => {
            let driver = find_driver()?;
            let starting = driver.start(namespaces.record.process.pid)?;
            (namespaces, driver, starting)
        }
        None => make(&state, config, find_driver)?,
    };
    namespaces.record.warnings.extend(warnings);
    let mut session = Session::start((&*driver, starting), ports, &namespaces, program)?;
    namespaces.cgroup.leave();
    let served = session.introduce(config, &namespaces).and_then(|()| session.serve(&signals, notify.as_ref()));
    match served {
        Ok(exit) => {
            if let Some(driver) = session.driver {
                driver.stop().map_err(|source| Error::Launcher { doing: "end the network driver", source })?;
            }
            Ok(exit)
        }
        Err(e) => {
            session.abandon();
            Err(e)
        }
    }
}

/// What the server is to know of this process's environment: the service manager speaks with this process, and the
/// server with the relay.
fn environment(notify: Option<&k3s_systemd::Relay>) -> impl Iterator<Item = (OsString, OsString)> {
    let own = std::env::vars_os().filter(|(name, _)| name != "NOTIFY_SOCKET" && name != "WATCHDOG_PID");
    own.chain(notify.map(|relay| ("NOTIFY_SOCKET".into(), relay.path().into())))
}

/// Namespaces, by their init.
struct Namespaces {
    record: InitRecord,
    pidfd: OwnedFd,
    /// Whether the init is our own child.
    ours: bool,
    cgroup: Placement,
}

/// How long the processes of namespaces that are being killed may take.
const DYING: std::time::Duration = std::time::Duration::from_secs(10);

/// Those that live from an earlier launch.
fn join(state: &StateDir, config: &Config) -> Result<Option<Namespaces>, Error> {
    let Some(mut record) = state.living_init()? else { return Ok(None) };
    let pidfd = record.process.open().map_err(|source| Error::Launcher { doing: "look for the namespaces", source })?;
    let Some(pidfd) = pidfd else { return Ok(None) };
    // An init that is being killed loses its namespaces a moment before it is gone.
    let link = std::fs::read_link(format!("/proc/{}/ns/mnt", record.process.pid));
    if link.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let waited = process::wait_readable(&pidfd, DYING);
        waited.map_err(|source| Error::Launcher { doing: "wait for the end of the old namespaces", source })?;
        return Ok(None);
    }
    if record.isolated != (config.net_driver == NetDriver::None) {
        return Err(Error::NetDriverChanged);
    }
    info!(pid = record.process.pid, "joining the namespaces of an earlier start");
    if record.copy_up_dirs != config.copy_up_dirs {
        let warning =
            "K3S_ROOTLESS_COPYUPDIRS has changed, which takes effect after all pods have ended (k3s-killall.sh)";
        record.warnings.push(warning.to_owned());
    }
    let cgroup = Placement::join(record.cgroup.clone());
    Ok(Some(Namespaces { record, pidfd, ours: false, cgroup }))
}

type WithDriver = (Namespaces, Box<dyn NetworkDriver>, Option<StartingDriver>);

/// New ones, set up and recorded, with a driver that is being started: as much as can be is done at the same time.
fn make(state: &StateDir, config: &Config, find_driver: network::Find<'_>) -> Result<WithDriver, Error> {
    let mapping = checks::id_mapping(&config.host, getuid().as_raw(), getgid().as_raw())?;
    let isolated = config.net_driver == NetDriver::None;
    let channel = |source| Error::Launcher { doing: "speak with the namespaces' init", source };
    let (here, there) = Channel::pair().map_err(channel)?;
    // It has no use for the user's environment, which may be large.
    let program = Program::itself(["k3s".into(), init::SUBCOMMAND.into()], [])?;
    // Its root becomes that of the cgroup namespace.
    let cgroup = Placement::acquire();
    let spawned = namespaces::create(program, there, &here)?;
    let cgroup = cgroup.settled();
    let set_up = || -> Result<_, Error> {
        let pid = spawned.pid.as_raw();
        let uids = mapping.uids.begin(&mapping.newuidmap, pid)?;
        let gids = mapping.gids.begin(&mapping.newgidmap, pid);
        let driver = find_driver();
        uids.finish().and(gids?.finish())?;
        let driver = driver?;
        here.send(&Mapped, None).map_err(channel)?;
        let set_up = SetUp {
            state_dir: config.state_dir.clone(),
            copy_up_dirs: config.copy_up_dirs.clone(),
            binds: config.binds.clone(),
            loopback: isolated.then(|| config.cidr.tap()),
        };
        here.send(&set_up, None).map_err(channel)?;
        let starting = driver.start(pid)?;
        let gone = || channel(io::ErrorKind::UnexpectedEof.into());
        let (ready, _) = here.receive::<Ready>().map_err(channel)?.ok_or_else(gone)?;
        if let Some(error) = ready.error {
            return Err(Error::SetUp { error });
        }
        let process = ProcessId::of(pid).map_err(channel)?;
        let copy_up_dirs = config.copy_up_dirs.clone();
        let record = InitRecord { process, copy_up_dirs, isolated, cgroup: cgroup.root(), warnings: ready.warnings };
        state.record_init(&record)?;
        here.send(&Keep, None).map_err(channel)?;
        info!(pid, "made new namespaces");
        Ok((record, driver, starting))
    };
    match set_up() {
        Ok((record, driver, starting)) => {
            Ok((Namespaces { record, pidfd: spawned.pidfd, ours: true, cgroup }, driver, starting))
        }
        Err(e) => {
            // Without namespaces to keep there is nothing for it to do.
            end(spawned.pid);
            Err(e)
        }
    }
}

/// The server and the driver that run for this launch.
struct Session<'a> {
    server: Pid,
    channel: Channel,
    /// Closed by the kernel at the latest when this process dies, which ends the server.
    _lifeline: io::PipeWriter,
    /// The other end, until the server has it.
    lifeline_there: Option<io::PipeReader>,
    start_driver: &'a dyn NetworkDriver,
    ports: Box<dyn PortDriver>,
    driver: Option<RunningDriver>,
    driver_ends: VecDeque<Instant>,
    init: i32,
    /// To be reaped, if it is our child.
    our_init: Option<Pid>,
}

impl<'a> Session<'a> {
    /// Starts the server, which waits until it is introduced, and returns when the network is there.
    fn start(
        (start_driver, starting): (&'a dyn NetworkDriver, Option<StartingDriver>),
        ports: Box<dyn PortDriver>,
        namespaces: &Namespaces,
        program: Program,
    ) -> Result<Self, Error> {
        let server_io = |source| Error::Launcher { doing: "make a channel to the server", source };
        let (channel, there) = Channel::pair().map_err(server_io)?;
        let (lifeline_there, lifeline) = io::pipe().map_err(server_io)?;
        let server = namespaces::start_in(namespaces.pidfd.as_fd(), program, there, &channel)?;
        let init = namespaces.record.process.pid;
        let mut session = Self {
            server,
            channel,
            _lifeline: lifeline,
            lifeline_there: Some(lifeline_there),
            start_driver,
            ports,
            driver: None,
            driver_ends: VecDeque::new(),
            init,
            our_init: namespaces.ours.then(|| Pid::from_raw(init)),
        };
        match starting.map(StartingDriver::ready).transpose() {
            Ok(driver) => session.driver = driver,
            Err(e) => {
                session.abandon();
                return Err(e.into());
            }
        }
        Ok(session)
    }

    /// Tells the server what it is to know, at which it goes on.
    fn introduce(&mut self, config: &Config, namespaces: &Namespaces) -> Result<(), Error> {
        let uid = getuid().as_raw();
        let user = checks::user_name(&config.host, uid);
        let mut warnings = namespaces.record.warnings.clone();
        warnings.extend(k3s_systemd::linger_advice(&user, uid));
        warnings.extend(namespaces.cgroup.warning());
        let info = Info {
            launcher_pid: std::process::id(),
            uid,
            gid: getgid().as_raw(),
            user,
            init_pid: namespaces.record.process.pid,
            net_driver: self.start_driver.name().to_owned(),
            network: self.start_driver.network(),
            port_driver: config.port_driver,
            disable_host_loopback: config.disable_host_loopback,
            state_dir: config.state_dir.clone(),
            cgroup: namespaces.cgroup.info.clone(),
            warnings,
        };
        let lifeline = self.lifeline_there.take();
        match self.channel.send(&info, lifeline.as_ref().map(AsFd::as_fd)) {
            // The server has already ended, by a signal say; its status will tell.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(|source| Error::Launcher { doing: "speak with the server", source }),
        }
    }

    /// Until the server has ended.
    fn serve(&mut self, signals: &Signals, notify: Option<&k3s_systemd::Relay>) -> Result<Exit, Error> {
        let failed = |doing| move |source| Error::Launcher { doing, source };
        let mut connected = true;
        // Once more when it has had nothing to do for a while: what it did last is not what it will do next.
        let mut rested = false;
        memory::release();
        // The network cannot be brought back: said when the server has ended.
        let mut lost = None;
        loop {
            let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
            fds.extend(notify.map(|relay| PollFd::new(relay, PollFlags::IN)));
            let asks = fds.len();
            fds.extend(connected.then(|| PollFd::new(&self.channel, PollFlags::IN)));
            match poll(&mut fds, (!rested).then_some(&REST)) {
                Ok(0) => {
                    memory::release();
                    rested = true;
                    continue;
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => rested = false,
                Err(e) => return Err(failed("wait for events")(e.into())),
            }
            let asked = fds.get(asks).is_some_and(|fd| !fd.revents().is_empty());
            if let Some(Err(error)) = notify.map(k3s_systemd::Relay::pass_on) {
                warn!(%error, "a notification is lost");
            }
            while let Some(signal) = signals.next().map_err(failed("read a signal"))? {
                self.pass_on(&signal);
            }
            self.reap_init();
            if let Some(exit) = self.reap_server().map_err(failed("wait for the server"))? {
                return match lost {
                    Some(e) => Err(Error::Network(e)),
                    None => Ok(exit),
                };
            }
            if lost.is_none()
                && let Err(e) = self.mend_driver()
            {
                warn!(error = %e, "ending the server, since its network is lost");
                self.signal(Signal::SIGTERM);
                lost = Some(e);
            }
            // Last: a server that has its answer can count on the network, as far as there is one.
            if asked {
                connected = self.answer();
            }
        }
    }

    fn pass_on(&self, signal: &siginfo) {
        // A terminal sends to the whole process group, in which the server is as well: it would
        // take a second interrupt for impatience.
        if signal.ssi_code == libc::SI_KERNEL {
            return;
        }
        if let Some(&signal) = FORWARDED.iter().find(|&&s| s as i32 as u32 == signal.ssi_signo) {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(e) = kill(self.server, signal) {
            warn!(%signal, error = %e, "cannot pass a signal on to the server");
        }
    }

    /// One question of the server. False when it will ask no more.
    fn answer(&mut self) -> bool {
        let done = match self.channel.receive::<PortRequest>() {
            Ok(Some((request, _))) => port::serve(&mut *self.ports, &self.channel, request),
            Ok(None) => return false,
            Err(e) => Err(e),
        };
        if let Err(e) = &done {
            warn!(error = %e, "lost the channel to the server: it can open no more ports");
        }
        done.is_ok()
    }

    fn reap_server(&self) -> io::Result<Option<Exit>> {
        match waitpid(self.server, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(Exit::Code(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Exit::Signal(signal as i32))),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// It ends only if it is killed, and the server goes with it; so there is nothing else to do.
    fn reap_init(&mut self) {
        if let Some(init) = self.our_init
            && !matches!(waitpid(init, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
        {
            self.our_init = None;
        }
    }

    /// Starts the driver anew if it has ended. Connections through it are lost, the server and the
    /// pods go on.
    fn mend_driver(&mut self) -> Result<(), NetworkError> {
        let driver = self.start_driver.name();
        let wait = |source| NetworkError::Io { driver, doing: "wait", source };
        let Some(running) = &mut self.driver else { return Ok(()) };
        let Some(status) = running.try_wait().map_err(wait)? else { return Ok(()) };
        let output = last_words(running.log());
        self.driver = None;
        let now = Instant::now();
        self.driver_ends.retain(|end| now - *end < Duration::from_secs(60));
        self.driver_ends.push_back(now);
        let times = self.driver_ends.len();
        if times > DRIVER_RESTARTS {
            return Err(NetworkError::KeepsEnding { driver, times, output });
        }
        warn!(driver, %status, output, "the network driver has ended; starting it anew");
        self.driver = self.start_driver.start(self.init)?.map(StartingDriver::ready).transpose()?;
        self.ports.network_restarted();
        Ok(())
    }

    /// Ends what was started, after an error.
    fn abandon(self) {
        end(self.server);
        if let Some(driver) = self.driver
            && let Err(e) = driver.stop()
        {
            warn!(error = %e, "cannot end the network driver");
        }
    }
}

/// Ends a child of ours and reaps it.
fn end(pid: Pid) {
    if let Err(e) = kill(pid, Signal::SIGKILL).and_then(|()| waitpid(pid, None)) {
        warn!(%pid, error = %e, "cannot end a process");
    }
}

/// The signals that are waited for, blocked for as long as this lives.
struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    fn block() -> io::Result<Self> {
        let mut mask: SigSet = FORWARDED.into_iter().collect();
        mask.add(Signal::SIGCHLD);
        let before = SigSet::thread_get_mask()?;
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd, before })
    }

    fn next(&self) -> io::Result<Option<siginfo>> {
        Ok(self.fd.read_signal()?)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Fails only for a `how` the kernel does not know.
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_as_a_shell_has_it() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(libc::SIGKILL).code(), 137);
    }
}
