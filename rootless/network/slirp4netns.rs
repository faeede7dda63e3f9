//! slirp4netns(1): user-mode TCP/IP between a tap device inside and sockets outside.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use slirp4netns_sys::{FeatureError, Features, Invocation};

use super::process::Program;
use super::{NetworkDriver, NetworkError, StartingDriver, TAP, by_device};
use crate::checks::HostPaths;
use crate::config::{Config, PortDriver};
use crate::host::NetworkInfo;
use crate::state::StateDir;

const NAME: &str = "slirp4netns";

/// The program and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slirp4netns {
    pub path: PathBuf,
    pub features: Features,
}

/// The program cannot be used. Its text is the problem; [`Self::remedy`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SlirpError {
    #[error("slirp4netns is missing")]
    Missing,
    #[error("cannot run {path:?}: {source}")]
    Run { path: PathBuf, source: io::Error },
    #[error("{path:?} is no slirp4netns that can be used: {source}")]
    Features { path: PathBuf, source: FeatureError },
    #[error("{path:?} has no {flag}, which {wanted_by} needs")]
    Lacks { path: PathBuf, flag: &'static str, wanted_by: &'static str },
}

impl SlirpError {
    /// What mends it.
    pub fn remedy(&self) -> String {
        let install =
            |flag| format!("with: sudo apt-get install {flag}slirp4netns; or set K3S_ROOTLESS_NET_DRIVER=pasta");
        match self {
            Self::Missing => format!("install it {}", install("")),
            Self::Run { .. } | Self::Features { source: FeatureError::Unknown { .. }, .. } => {
                format!("install it anew {}", install("--reinstall "))
            }
            Self::Features { source: FeatureError::TooOld { .. }, .. } => format!("update it {}", install("")),
            Self::Lacks { wanted_by, .. } => format!("update slirp4netns, or unset {wanted_by}"),
        }
    }
}

impl Slirp4netns {
    /// Looks for it and asks what it can do.
    ///
    /// # Errors
    /// It is missing, cannot be run, or is too old.
    pub fn find(host: &HostPaths) -> Result<Self, SlirpError> {
        Self::ask(host)?.answer()
    }

    /// The same in two steps, since its answer takes the time of a process.
    pub(crate) fn ask(host: &HostPaths) -> Result<Asked, SlirpError> {
        let path = host.find(NAME).ok_or(SlirpError::Missing)?;
        let ask = |option: &str| {
            let command = &mut Command::new(&path);
            let child = command.arg(option).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
            child.map_err(|source| SlirpError::Run { path: path.clone(), source })
        };
        let (version, help) = (ask("--version")?, ask("--help")?);
        Ok(Asked { path, version, help })
    }
}

/// A slirp4netns that is being asked.
pub(crate) struct Asked {
    path: PathBuf,
    version: Child,
    help: Child,
}

impl Asked {
    /// What it says.
    pub(crate) fn answer(self) -> Result<Slirp4netns, SlirpError> {
        let Self { path, version, help } = self;
        let (version, help) = (version.wait_with_output(), help.wait_with_output());
        let words = |output: io::Result<Output>| match output {
            Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Err(source) => Err(SlirpError::Run { path: path.clone(), source }),
        };
        match Features::parse(&words(version)?, &words(help)?) {
            Ok(features) => Ok(Slirp4netns { path, features }),
            Err(source) => Err(SlirpError::Features { path, source }),
        }
    }
}

/// slirp4netns with the settings of one launch.
#[derive(Debug)]
pub struct Slirp4netnsDriver {
    program: Slirp4netns,
    network: NetworkInfo,
    disable_host_loopback: bool,
    /// Where it is to serve its own API, for the port driver that needs it.
    api_socket: Option<PathBuf>,
    log: PathBuf,
}

impl Slirp4netnsDriver {
    /// # Errors
    /// A setting asks for something that this slirp4netns lacks.
    pub fn new(program: Slirp4netns, config: &Config, state: &StateDir) -> Result<Self, SlirpError> {
        let lacks = |flag, wanted_by| SlirpError::Lacks { path: program.path.clone(), flag, wanted_by };
        if config.enable_ipv6 && !program.features.ipv6 {
            return Err(lacks("--enable-ipv6", "K3S_ROOTLESS_ENABLE_IPV6=true"));
        }
        let api = config.port_driver == PortDriver::Slirp4netns;
        if api && !program.features.api_socket {
            return Err(lacks("--api-socket", "K3S_ROOTLESS_PORT_DRIVER=slirp4netns"));
        }
        Ok(Self {
            program,
            network: by_device(config),
            disable_host_loopback: config.disable_host_loopback,
            api_socket: api.then(|| state.slirp4netns_socket()),
            log: state.driver_log(NAME),
        })
    }

    fn invocation(&self, ready: RawFd, exit: RawFd, init: i32) -> Invocation {
        Invocation::new(init, TAP)
            .mtu(self.network.mtu)
            .cidr(&self.network.cidr.to_string())
            .ready_fd(ready)
            .exit_fd(exit)
            .disable_host_loopback(self.disable_host_loopback)
            .enable_ipv6(self.network.ipv6)
            .api_socket(self.api_socket.clone())
            .sandboxed_by(&self.program.features)
    }
}

impl NetworkDriver for Slirp4netnsDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn network(&self) -> NetworkInfo {
        self.network.clone()
    }

    fn start(&self, init: i32) -> Result<Option<StartingDriver>, NetworkError> {
        let program = Program { driver: NAME, path: &self.program.path, log: &self.log };
        // It would refuse to bind an API socket that is there.
        program.make_room(init, self.api_socket.as_deref())?;
        let (ready_here, ready_there) = io::pipe().map_err(program.io("make a pipe"))?;
        let (exit_there, exit_here) = io::pipe().map_err(program.io("make a pipe"))?;
        let passed = [ready_there.as_raw_fd(), exit_there.as_raw_fd()];
        let arguments = self.invocation(passed[0], passed[1], init).arguments();
        // SAFETY: `inherit` makes one system call.
        let child =
            unsafe { program.spawn(arguments, Stdio::null(), move || passed.iter().try_for_each(|&fd| inherit(fd))) }?;
        drop((ready_there, exit_there));
        Ok(Some(StartingDriver::new(&program, child, exit_here.into(), ready_here, None)))
    }
}

/// Has a descriptor outlive exec.
fn inherit(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes a descriptor, which our parent holds open until after the exec, and an integer.
    let done = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::TestHost;
    use std::path::Path;

    fn config(vars: &[(&str, &str)]) -> Config {
        let vars = vars.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        Config::from_env(vars, Path::new("/d"), false).unwrap()
    }

    fn program(help: &str) -> Slirp4netns {
        let features = Features::parse("slirp4netns version 1.2.0", help).unwrap();
        Slirp4netns { path: "/usr/bin/slirp4netns".into(), features }
    }

    const HELP: &str = "--enable-sandbox --enable-seccomp --enable-ipv6 --api-socket";

    #[test]
    fn it_says_itself_what_it_can() {
        let host = TestHost::new("slirp-find");
        assert!(matches!(Slirp4netns::find(&host.paths), Err(SlirpError::Missing)));
        host.script("slirp4netns", "[ $1 = --help ] && echo --enable-sandbox || echo slirp4netns version 1.0.1");
        let found = Slirp4netns::find(&host.paths).unwrap();
        assert!(found.features.sandbox && !found.features.seccomp);
        host.script("slirp4netns", "echo slirp4netns version 0.3.9");
        let error = Slirp4netns::find(&host.paths).unwrap_err();
        let text = format!("{error}; {}", error.remedy());
        assert!(text.contains("0.3.9") && text.contains("update it with: sudo apt-get install slirp4netns"), "{text}");
        host.script("slirp4netns", "echo hello");
        let error = Slirp4netns::find(&host.paths).unwrap_err();
        assert!(error.to_string().contains("hello") && error.remedy().contains("--reinstall"), "{error}");
    }

    #[test]
    fn settings_become_flags() {
        let state = StateDir::open(Path::new("/d/rootless"));
        let vars = [
            ("K3S_ROOTLESS_MTU", "9000"),
            ("K3S_ROOTLESS_ENABLE_IPV6", "true"),
            ("K3S_ROOTLESS_PORT_DRIVER", "slirp4netns"),
        ];
        let driver = Slirp4netnsDriver::new(program(HELP), &config(&vars), &state).unwrap();
        assert_eq!(
            driver.invocation(5, 6, 77).arguments().join(" "),
            "--configure --mtu=9000 --cidr=10.41.0.0/16 --ready-fd=5 --exit-fd=6 \
             --api-socket=/d/rootless/slirp4netns.sock --disable-host-loopback --enable-ipv6 --enable-sandbox \
             --enable-seccomp 77 tap0"
        );
        let vars = [("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "false")];
        let driver = Slirp4netnsDriver::new(program(""), &config(&vars), &state).unwrap();
        assert_eq!(
            driver.invocation(5, 6, 77).arguments().join(" "),
            "--configure --mtu=1500 --cidr=10.41.0.0/16 --ready-fd=5 --exit-fd=6 77 tap0"
        );
    }

    #[test]
    fn a_missing_feature_that_is_asked_for_is_an_error() {
        let state = StateDir::open(Path::new("/d/rootless"));
        for (variable, value, flag) in [
            ("K3S_ROOTLESS_ENABLE_IPV6", "true", "--enable-ipv6"),
            ("K3S_ROOTLESS_PORT_DRIVER", "slirp4netns", "--api-socket"),
        ] {
            let error = Slirp4netnsDriver::new(program(""), &config(&[(variable, value)]), &state).unwrap_err();
            assert!(error.to_string().contains(flag) && error.remedy().contains(variable), "{error}");
        }
    }
}
