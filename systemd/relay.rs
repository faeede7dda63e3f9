//! Notifications of a server in other namespaces, passed on by the process that the service manager knows.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::notify::{Notification, Notifier, NotifyError};

/// What the server may say. Not `MAINPID` or `FDSTORE`: pids and descriptors are other ones on this side. With `READY` the
/// main process is named, which is this one: a service may have started it by a script.
const PASSED: [&str; 8] =
    ["READY", "STATUS", "STOPPING", "RELOADING", "MONOTONIC_USEC", "WATCHDOG", "ERRNO", "EXTEND_TIMEOUT_USEC"];

/// A socket for the server, and the way on. The socket's file goes with it.
#[derive(Debug)]
pub struct Relay {
    socket: UnixDatagram,
    path: PathBuf,
    to: Notifier,
}

impl Relay {
    /// Listens at `path`, which must be reachable for the server and for nobody else.
    ///
    /// # Errors
    /// It can't be made, or is too long for a socket (107 bytes).
    pub fn listen(path: &Path, to: Notifier) -> Result<Self, NotifyError> {
        let failed = |source| NotifyError::Listen { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = UnixDatagram::bind(path).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { socket, path: path.to_owned(), to })
    }

    /// The server's `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Passes on what has arrived, without waiting.
    ///
    /// # Errors
    /// The service manager is gone.
    pub fn pass_on(&self) -> Result<(), NotifyError> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = passed(&String::from_utf8_lossy(&buffer[..length]));
                    if !text.is_empty() {
                        self.to.send_text(&text)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NotifyError::Socket(error)),
            }
        }
    }
}

fn passed(text: &str) -> String {
    let kept = text.lines().filter(|line| PASSED.iter().any(|name| line.split('=').next() == Some(name)));
    let mut kept: Vec<String> = kept.map(str::to_owned).collect();
    if kept.iter().any(|line| line == "READY=1") {
        kept.push(Notification::MainPid(std::process::id()).to_string());
    }
    kept.join("\n")
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A file that stays is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{notifier, received};

    #[test]
    fn readiness_is_passed_on_and_the_main_process_is_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let (manager, path) = (folder.path().join("manager"), folder.path().join("relay"));
        let socket = UnixDatagram::bind(&manager).unwrap();
        let to = notifier(&[("NOTIFY_SOCKET", manager.to_str().unwrap())]).unwrap();
        let relay = Relay::listen(&path, to).unwrap();
        let server = UnixDatagram::unbound().unwrap();
        server.send_to(b"MAINPID=7", relay.path()).unwrap();
        server.send_to(b"READY=1\nSTATUS=serving\nMAINPID=7\nFDSTORE=1", relay.path()).unwrap();
        relay.pass_on().unwrap();
        assert_eq!(received(&socket), format!("READY=1\nSTATUS=serving\nMAINPID={}", std::process::id()));
        server.send_to(b"WATCHDOG=1", relay.path()).unwrap();
        server.send_to(b"RELOADING=1\nMONOTONIC_USEC=7", relay.path()).unwrap();
        relay.pass_on().unwrap();
        assert_eq!(received(&socket), "WATCHDOG=1");
        assert_eq!(received(&socket), "RELOADING=1\nMONOTONIC_USEC=7");
        drop(relay);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_an_earlier_start_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay");
        drop(UnixDatagram::bind(&path).unwrap());
        assert!(Relay::listen(&path, notifier(&[]).unwrap()).is_ok());
    }
}
