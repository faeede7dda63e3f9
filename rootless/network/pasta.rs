//! pasta(1), of passt: sockets outside for flows inside, without a TCP/IP stack of its own in between.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::process::Program;
use super::{NetworkDriver, NetworkError, StartingDriver, TAP, by_device};
use crate::checks::HostPaths;
use crate::config::Config;
use crate::host::NetworkInfo;
use crate::lifeline;
use crate::state::StateDir;

const NAME: &str = "pasta";

/// What is not in the first versions.
const NEEDED: [&str; 4] = ["--config-net", "--ns-ifname", "--dns-forward", "--no-map-gw"];

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pasta {
    pub path: PathBuf,
}

/// The program cannot be used. Its text is the problem; [`Self::remedy`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    #[error("pasta is missing")]
    Missing,
    #[error("cannot run {path:?}: {source}")]
    Run { path: PathBuf, source: io::Error },
    #[error("{path:?} has no {flag}")]
    Lacks { path: PathBuf, flag: &'static str },
}

impl PastaError {
    /// What mends it.
    pub fn remedy(&self) -> String {
        let how = match self {
            Self::Missing => "install it with: sudo apt-get install passt",
            Self::Run { .. } => "install it anew with: sudo apt-get install --reinstall passt",
            Self::Lacks { .. } => "update it with: sudo apt-get install passt",
        };
        format!("{how}; or set K3S_ROOTLESS_NET_DRIVER=slirp4netns")
    }
}

impl Pasta {
    /// Looks for it and whether it is new enough. Its versions are dates in some distributions and hashes in others,
    /// so it is its flags that count.
    ///
    /// # Errors
    /// It is missing, cannot be run, or lacks a flag.
    pub fn find(host: &HostPaths) -> Result<Self, PastaError> {
        Self::ask(host)?.answer()
    }

    /// The same in two steps, since its answer takes the time of a process.
    pub(crate) fn ask(host: &HostPaths) -> Result<Asked, PastaError> {
        let path = host.find(NAME).ok_or(PastaError::Missing)?;
        let mut command = Command::new(&path);
        command.arg("--help").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(help) => Ok(Asked { path, help }),
            Err(source) => Err(PastaError::Run { path, source }),
        }
    }
}

/// A pasta that is being asked.
pub(crate) struct Asked {
    path: PathBuf,
    help: Child,
}

impl Asked {
    /// What it says.
    pub(crate) fn answer(self) -> Result<Pasta, PastaError> {
        let Self { path, help } = self;
        let output = match help.wait_with_output() {
            Ok(output) => output,
            Err(source) => return Err(PastaError::Run { path, source }),
        };
        // Old ones print it as errors, and to the system's log.
        let help = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        match NEEDED.iter().find(|flag| !help.contains(*flag)) {
            Some(flag) => Err(PastaError::Lacks { path, flag }),
            None => Ok(Pasta { path }),
        }
    }
}

/// pasta with the settings of one launch.
#[derive(Debug)]
pub struct PastaDriver {
    program: Pasta,
    network: NetworkInfo,
    disable_host_loopback: bool,
    log: PathBuf,
    ready: PathBuf,
}

impl PastaDriver {
    pub fn new(program: Pasta, config: &Config, state: &StateDir) -> Self {
        Self {
            program,
            network: by_device(config),
            disable_host_loopback: config.disable_host_loopback,
            log: state.driver_log(NAME),
            ready: state.driver_ready(),
        }
    }

    fn arguments(&self, init: i32) -> Vec<String> {
        let cidr = self.network.cidr;
        let text = |text: &str| text.to_owned();
        let mut arguments = vec![text("--foreground"), text("--quiet"), text("--config-net")];
        let mut valued = |flag: &str, value: String| arguments.extend([text(flag), value]);
        valued("--ns-ifname", text(TAP));
        valued("--address", cidr.tap().to_string());
        valued("--netmask", cidr.network().prefix_len().to_string());
        valued("--gateway", cidr.gateway().to_string());
        valued("--dns-forward", cidr.dns().to_string());
        valued("--mtu", self.network.mtu.to_string());
        // Ports are the port driver's, in both directions.
        for direction in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
            valued(direction, text("none"));
        }
        // Written when the device is configured.
        valued("--pid", self.ready.display().to_string());
        if self.disable_host_loopback {
            arguments.push(text("--no-map-gw"));
        }
        if !self.network.ipv6 {
            arguments.push(text("--ipv4-only"));
        }
        arguments.push(init.to_string());
        arguments
    }
}

impl NetworkDriver for PastaDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn network(&self) -> NetworkInfo {
        self.network.clone()
    }

    fn start(&self, init: i32) -> Result<Option<StartingDriver>, NetworkError> {
        let program = Program { driver: NAME, path: &self.program.path, log: &self.log };
        program.make_room(init, Some(&self.ready))?;
        // It has no descriptor for readiness, but a pid file; a pipe with a name makes one of it.
        mkfifo(&self.ready, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| program.io("make a pipe")(e.into()))?;
        // Open for writing as well, which neither waits for a writer nor sees an end.
        let ready = OpenOptions::new().read(true).write(true).open(&self.ready).map_err(program.io("open a pipe"))?;
        let (lifeline_there, lifeline) = io::pipe().map_err(program.io("make a pipe"))?;
        // Joining the user namespace clears the parent-death signal, and other descriptors it closes: its standard input
        // is what ties it to us.
        // SAFETY: `tie_to` makes system calls only.
        let child = unsafe {
            program.spawn(self.arguments(init), lifeline_there.into(), || lifeline::tie_to(std::io::stdin().as_fd()))
        };
        let mut child = child?;
        let ready = Readiness::of(ready, &mut child).map_err(program.io("wait for its readiness"))?;
        Ok(Some(StartingDriver::new(&program, child, lifeline.into(), ready, Some(self.ready.clone()))))
    }
}

/// The named pipe as [`StartingDriver::ready`] reads it: a byte when the pid is there, an end when the program has
/// ended. Since we hold the pipe open for writing ourselves, the end is another descriptor's.
struct Readiness {
    pipe: fs::File,
    _pidfd: OwnedFd,
    /// Readable when either is.
    either: OwnedFd,
}

impl Readiness {
    fn of(pipe: fs::File, child: &mut Child) -> io::Result<Self> {
        use rustix::event::epoll;
        let pid = rustix::process::Pid::from_child(child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&either, &pipe, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        epoll::add(&either, &pidfd, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        Ok(Self { pipe, _pidfd: pidfd, either })
    }
}

impl io::Read for Readiness {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let said = crate::process::wait_readable(&self.pipe, std::time::Duration::ZERO)?;
        if said {
            return self.pipe.read(bytes);
        }
        Ok(0)
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.either.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::TestHost;
    use std::path::Path;

    #[test]
    fn settings_become_flags() {
        let vars = [("K3S_ROOTLESS_NET_DRIVER", "pasta")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let mut config = Config::from_env(vars, Path::new("/d"), false).unwrap();
        let driver = |config: &Config| {
            let program = Pasta { path: "/usr/bin/pasta".into() };
            PastaDriver::new(program, config, &StateDir::open(Path::new("/d/rootless"))).arguments(77).join(" ")
        };
        assert_eq!(
            driver(&config),
            "--foreground --quiet --config-net --ns-ifname tap0 --address 10.41.0.100 --netmask 16 --gateway 10.41.0.2 \
             --dns-forward 10.41.0.3 --mtu 65520 --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none \
             --pid /d/rootless/driver.ready --no-map-gw --ipv4-only 77"
        );
        config.disable_host_loopback = false;
        config.enable_ipv6 = true;
        assert!(driver(&config).ends_with("driver.ready 77"));
    }

    #[test]
    fn one_without_a_flag_that_is_needed_is_too_old() {
        let host = TestHost::new("pasta");
        let error = Pasta::find(&host.paths).unwrap_err();
        assert!(error.remedy().contains("sudo apt-get install passt"), "{error}");
        host.script("pasta", "echo --config-net --ns-ifname --no-map-gw >&2");
        let error = Pasta::find(&host.paths).unwrap_err().to_string();
        assert!(error.contains("--dns-forward"), "{error}");
    }
}
