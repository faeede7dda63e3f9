//! slirp4netns(1): user-mode TCP/IP between a tap device inside and sockets outside.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::checks::HostPaths;
use crate::config::{Cidr, Config};
use crate::network::{NetworkDriver, NetworkError, RunningDriver, TAP, await_no_tap};

const NAME: &str = "slirp4netns";

/// The first that has `--exit-fd`, `--ready-fd`, `--cidr` and `--disable-host-loopback` together.
const OLDEST: (u32, u32, u32) = (0, 4, 0);

/// The program and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slirp4netns {
    pub path: PathBuf,
    pub version: (u32, u32, u32),
    /// Has `--enable-sandbox`.
    pub sandbox: bool,
    /// Has `--enable-seccomp`.
    pub seccomp: bool,
    /// Has `--enable-ipv6`.
    pub ipv6: bool,
}

/// The program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlirpError {
    #[error("slirp4netns is missing; install it with: sudo apt-get install slirp4netns")]
    Missing,
    #[error("cannot run {path:?}: {source}; install it anew with: sudo apt-get install --reinstall slirp4netns")]
    Run { path: PathBuf, source: io::Error },
    #[error(
        "{path:?} does not say its version but {output:?}; install slirp4netns anew with: sudo apt-get install --reinstall slirp4netns"
    )]
    Version { path: PathBuf, output: String },
    #[error("{path:?} is version {found}, too old: 0.4.0 is needed; update it with: sudo apt-get install slirp4netns")]
    TooOld { path: PathBuf, found: String },
    #[error("{path:?} has no --enable-ipv6; update slirp4netns, or set K3S_ROOTLESS_ENABLE_IPV6=false")]
    NoIpv6 { path: PathBuf },
}

impl Slirp4netns {
    /// Looks for it and asks what it can do.
    ///
    /// # Errors
    /// It is missing, cannot be run, or is too old.
    pub fn find(host: &HostPaths) -> Result<Self, SlirpError> {
        let path = host.find(NAME).ok_or(SlirpError::Missing)?;
        let says = |option: &str| {
            let output = Command::new(&path).arg(option).stdin(Stdio::null()).output();
            let output = output.map_err(|source| SlirpError::Run { path: path.clone(), source })?;
            Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let (version, help) = (says("--version")?, says("--help")?);
        Self::from_its_words(path, &version, &help)
    }

    fn from_its_words(path: PathBuf, version: &str, help: &str) -> Result<Self, SlirpError> {
        let Some((found, version)) = parse_version(version) else {
            let output = version.lines().next().unwrap_or_default().to_owned();
            return Err(SlirpError::Version { path, output });
        };
        if version < OLDEST {
            return Err(SlirpError::TooOld { path, found: found.to_owned() });
        }
        let has = |option| help.contains(option);
        Ok(Self {
            path,
            version,
            sandbox: has("--enable-sandbox"),
            seccomp: has("--enable-seccomp"),
            ipv6: has("--enable-ipv6"),
        })
    }
}

/// `slirp4netns version 1.2.0-beta.1` is 1.2.0.
fn parse_version(text: &str) -> Option<(&str, (u32, u32, u32))> {
    let found = text.lines().next()?.strip_prefix("slirp4netns version ")?.trim();
    let mut numbers = found.split(['.', '-', '+']).map(|n| n.parse().ok());
    Some((found, (numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0))))
}

/// slirp4netns with the settings of one launch.
#[derive(Debug)]
pub struct Slirp4netnsDriver {
    program: Slirp4netns,
    mtu: u32,
    cidr: Cidr,
    enable_ipv6: bool,
    disable_host_loopback: bool,
    /// Where it is to serve its own API, for drivers of ports that need it.
    pub api_socket: Option<PathBuf>,
}

impl Slirp4netnsDriver {
    /// # Errors
    /// IPv6 is asked for, and this slirp4netns has none.
    pub fn new(program: Slirp4netns, config: &Config) -> Result<Self, SlirpError> {
        if config.enable_ipv6 && !program.ipv6 {
            return Err(SlirpError::NoIpv6 { path: program.path });
        }
        Ok(Self {
            program,
            mtu: config.mtu,
            cidr: config.cidr,
            enable_ipv6: config.enable_ipv6,
            disable_host_loopback: config.disable_host_loopback,
            api_socket: None,
        })
    }

    fn arguments(&self, ready: RawFd, exit: RawFd, init: i32) -> Vec<String> {
        let mut args = vec![
            "--configure".to_owned(),
            format!("--mtu={}", self.mtu),
            format!("--cidr={}", self.cidr),
            format!("--ready-fd={ready}"),
            format!("--exit-fd={exit}"),
        ];
        if self.disable_host_loopback {
            args.push("--disable-host-loopback".to_owned());
        }
        if self.enable_ipv6 {
            args.push("--enable-ipv6".to_owned());
        }
        if self.program.sandbox {
            args.push("--enable-sandbox".to_owned());
        }
        if self.program.seccomp {
            args.push("--enable-seccomp".to_owned());
        }
        if let Some(socket) = &self.api_socket {
            args.push(format!("--api-socket={}", socket.display()));
        }
        args.extend([init.to_string(), TAP.to_owned()]);
        args
    }
}

impl NetworkDriver for Slirp4netnsDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&self, init: i32, log: &Path) -> Result<RunningDriver, NetworkError> {
        let io = |doing| move |source| NetworkError::Io { driver: NAME, doing, source };
        await_no_tap(init)?;
        let output = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(log);
        let output = output.map_err(io("open the log"))?;
        let (ready_here, ready_there) = io::pipe().map_err(io("make a pipe"))?;
        let (exit_there, exit_here) = io::pipe().map_err(io("make a pipe"))?;
        let passed = [ready_there.as_raw_fd(), exit_there.as_raw_fd()];
        let mut command = Command::new(&self.program.path);
        command
            .args(self.arguments(passed[0], passed[1], init))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(io("open the log"))?)
            .stderr(output);
        // SAFETY: what runs between fork and exec makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(move || detach(&passed)) };
        let child = command.spawn().map_err(io("start the program"))?;
        drop((ready_there, exit_there));
        RunningDriver::when_ready(NAME, child, ready_here, OwnedFd::from(exit_here), log)
    }
}

/// In the driver's process, before it becomes the driver.
fn detach(passed: &[RawFd]) -> io::Result<()> {
    // Its own session, so that an interrupt from the terminal does not cut the network off while
    // the server is still shutting down.
    rustix::process::setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The launcher has the signals it waits for blocked, and a mask is inherited.
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    for &fd in passed {
        // SAFETY: the caller holds both open, and they stay open across the fork.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "-6, --enable-ipv6 enable IPv6\n--enable-sandbox create\n--enable-seccomp enable\n";

    fn words(version: &str, help: &str) -> Result<Slirp4netns, SlirpError> {
        Slirp4netns::from_its_words("/usr/bin/slirp4netns".into(), version, help)
    }

    #[test]
    fn features_are_those_of_the_help_text() {
        let found = words("slirp4netns version 1.2.0\ncommit: 656041d\n", HELP).unwrap();
        assert_eq!((found.version, found.sandbox, found.seccomp, found.ipv6), ((1, 2, 0), true, true, true));
        let found = words("slirp4netns version 0.4.0-beta.2+dev\n", "").unwrap();
        assert_eq!((found.version, found.sandbox, found.seccomp, found.ipv6), ((0, 4, 0), false, false, false));
    }

    #[test]
    fn an_old_or_strange_program_is_refused_with_what_to_do() {
        let error = words("slirp4netns version 0.3.1", HELP).unwrap_err().to_string();
        assert!(error.contains("0.3.1") && error.contains("too old") && error.contains("apt-get"), "{error}");
        let error = words("hello", HELP).unwrap_err().to_string();
        assert!(error.contains("hello") && error.contains("--reinstall"), "{error}");
    }

    #[test]
    fn settings_become_flags() {
        let vars = [("K3S_ROOTLESS_MTU", "9000"), ("K3S_ROOTLESS_ENABLE_IPV6", "true")];
        let vars = vars.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let mut config = Config::from_env(vars, Path::new("/d"), false).unwrap();
        let program = words("slirp4netns version 1.2.0", HELP).unwrap();
        let driver = Slirp4netnsDriver::new(program.clone(), &config).unwrap();
        assert_eq!(
            driver.arguments(5, 6, 77).join(" "),
            "--configure --mtu=9000 --cidr=10.41.0.0/16 --ready-fd=5 --exit-fd=6 --disable-host-loopback \
             --enable-ipv6 --enable-sandbox --enable-seccomp 77 tap0"
        );
        config.disable_host_loopback = false;
        config.enable_ipv6 = false;
        let program = Slirp4netns { sandbox: false, seccomp: false, ipv6: false, ..program };
        let driver = Slirp4netnsDriver::new(program.clone(), &config).unwrap();
        assert_eq!(
            driver.arguments(5, 6, 77).join(" "),
            "--configure --mtu=9000 --cidr=10.41.0.0/16 --ready-fd=5 --exit-fd=6 77 tap0"
        );
        config.enable_ipv6 = true;
        assert!(matches!(Slirp4netnsDriver::new(program, &config), Err(SlirpError::NoIpv6 { .. })));
    }
}
