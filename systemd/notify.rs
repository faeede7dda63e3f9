//! sd_notify(3): telling the service manager how a service fares.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

/// One thing to say, in the protocol's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// It has started, or has finished reloading.
    Ready,
    /// One line for `systemctl status`.
    Status(String),
    /// It is about to end.
    Stopping,
    /// It reloads its configuration. [`Self::Ready`] follows when that is done.
    Reloading,
    /// The main process is another from now on.
    MainPid(u32),
    /// It lives.
    Watchdog,
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            // A line break would begin another assignment.
            Self::Status(text) => write!(f, "STATUS={}", text.replace('\n', " ")),
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Reloading => {
                // systemd takes only a time after it has asked for the reload, so that an old message counts for nothing.
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                write!(f, "RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
            }
            Self::MainPid(pid) => write!(f, "MAINPID={pid}"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
        }
    }
}

/// `NOTIFY_SOCKET` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error("NOTIFY_SOCKET={value} is neither a path nor, with an @ in front, an abstract name")]
    Address { value: String },
    #[error("cannot open a socket to notify the service manager: {0}")]
    Socket(io::Error),
    #[error("cannot listen for notifications on {path:?}: {source}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot notify the service manager: {0}")]
    Send(io::Error),
}

/// The way to the service manager, if one waits to be told.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As this process's environment has it: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// The socket's address is none.
    pub fn from_env() -> Result<Self, NotifyError> {
        Self::new(|name| std::env::var_os(name).map(|value| value.as_bytes().to_vec()), std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<Vec<u8>>, pid: u32) -> Result<Self, NotifyError> {
        let Some(value) = variable("NOTIFY_SOCKET").filter(|value| !value.is_empty()) else {
            return Ok(Self { to: None, watchdog: None });
        };
        let address = match value.split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name).ok(),
            Some((b'/', _)) => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(&value)).ok(),
            _ => None,
        };
        let address =
            address.ok_or_else(|| NotifyError::Address { value: String::from_utf8_lossy(&value).into_owned() })?;
        let socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
        let number = |name| -> Option<u64> { std::str::from_utf8(&variable(name)?).ok()?.parse().ok() };
        // Without a pid it is meant for whoever has the variable.
        let meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| meant && usec > 0).map(Duration::from_micros);
        Ok(Self { to: Some((socket, address)), watchdog })
    }

    /// Whether anybody listens.
    pub fn is_wanted(&self) -> bool {
        self.to.is_some()
    }

    /// How often to send [`Notification::Watchdog`]: half of the time after which the service manager takes silence
    /// for death.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    /// Says all of it in one message; nothing where nobody listens.
    ///
    /// # Errors
    /// The service manager is gone.
    pub fn send(&self, notifications: &[Notification]) -> Result<(), NotifyError> {
        let lines: Vec<String> = notifications.iter().map(Notification::to_string).collect();
        self.send_text(&lines.join("\n"))
    }

    pub(crate) fn send_text(&self, text: &str) -> Result<(), NotifyError> {
        let Some((socket, address)) = &self.to else { return Ok(()) };
        socket.send_to_addr(text.as_bytes(), address).map(drop).map_err(NotifyError::Send)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A notifier with these variables, for process 7.
    pub fn notifier(variables: &[(&str, &str)]) -> Result<Notifier, NotifyError> {
        let find = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.as_bytes().to_vec());
        Notifier::new(find, 7)
    }

    pub fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn it_speaks_to_a_socket_in_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        notifier.send(&[Notification::Ready, Notification::Status("serving\nFDSTORE=1".into())]).unwrap();
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving FDSTORE=1");
        notifier.send(&[Notification::MainPid(12), Notification::Stopping, Notification::Watchdog]).unwrap();
        assert_eq!(received(&socket), "MAINPID=12\nSTOPPING=1\nWATCHDOG=1");
    }

    #[test]
    fn it_speaks_to_an_abstract_socket() {
        let name = format!("k3s-notify-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).unwrap();
        notifier.send(&[Notification::Reloading]).unwrap();
        let text = received(&socket);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0, "{text}");
    }

    #[test]
    fn without_a_service_manager_nothing_is_said_and_nothing_fails() {
        let notifier = notifier(&[("WATCHDOG_USEC", "1000000")]).unwrap();
        assert!(!notifier.is_wanted());
        assert_eq!(notifier.watchdog_interval(), None);
        notifier.send(&[Notification::Ready]).unwrap();
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_by_the_process_it_is_meant_for() {
        let socket = ("NOTIFY_SOCKET", "@x");
        let interval = |variables: &[(&str, &str)]| notifier(variables).unwrap().watchdog_interval();
        assert_eq!(interval(&[socket, ("WATCHDOG_USEC", "3000000")]), Some(Duration::from_millis(1500)));
        assert_eq!(
            interval(&[socket, ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")]),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(interval(&[socket, ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(interval(&[socket]), None);
    }

    #[test]
    fn an_address_of_another_kind_is_an_error_that_shows_it() {
        let error = notifier(&[("NOTIFY_SOCKET", "vsock:2:1234")]).unwrap_err();
        assert!(error.to_string().contains("vsock:2:1234"), "{error}");
    }
}
