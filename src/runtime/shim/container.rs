//! A container as its shim sees it: a process, its streams, its log, and who is attached.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use k3s_cri::{ContainerUser, PidMode};
use rustix::event::{PollFd, PollFlags};

use super::log::{Log, Stream};
use super::protocol::{Exit, KnownContainer, OciRuntime, Started};

/// How much is read from a stream at once.
const CHUNK: usize = 16 * 1024;

/// Where a start stands: the process has not become the container's command yet.
pub(super) struct Starting {
    pub progress: OwnedFd,
    /// Connection and number of the call to answer.
    pub reply_to: (u64, u64),
    pub error: Option<String>,
}

/// A container of this sandbox.
pub(super) struct Container {
    pub id: String,
    pub pid: i32,
    pub proc_pid: i32,
    pub pidfd: OwnedFd,
    /// Has a pid namespace of its own, with which all its processes end.
    pub own_pids: bool,
    pub mount_namespace: Option<u64>,
    pub starting: Option<Starting>,
    pub started_at: i64,
    pub user: Option<ContainerUser>,
    pub exit: Option<Exit>,
    /// The runtime has removed it.
    pub forgotten: bool,
    pub log: Log,
    pub streams: Streams,
    pub cgroup: Option<PathBuf>,
    /// Who runs it, where that is not the executor.
    pub foreign: Option<Foreign>,
}

/// A container that another OCI runtime runs.
pub(super) struct Foreign {
    pub runtime: OciRuntime,
    pub bundle: PathBuf,
    pub pid_mode: PidMode,
    /// The first process is known: `pid` is its number, no longer the driver's.
    pub made: bool,
    /// Exit code of a first process that has ended before its driver.
    pub ended: Option<i32>,
    /// The driver that has the runtime forget the container, and the exit code of the container.
    pub deleting: Option<(i32, i32)>,
}

impl Container {
    pub(super) fn started(&self) -> Started {
        Started { pid: self.proc_pid, user: self.user.clone(), started_at: self.started_at }
    }

    pub(super) fn describe(&self) -> KnownContainer {
        let started = (self.started_at != 0).then(|| self.started());
        KnownContainer { container: self.id.clone(), started, exit: self.exit }
    }
}

/// The shim's ends of a container's standard streams.
pub(super) struct Streams {
    /// Both directions, in place of the pipes.
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub outputs: [Option<OwnedFd>; 2],
    pub stdin_once: bool,
    /// Input taken from an attached client that the container has not read yet.
    pub input: VecDeque<u8>,
    pub attached: Vec<Attached>,
}

/// A client connected to a container's streams.
#[derive(Default)]
pub(super) struct Attached {
    pub stdin: Option<OwnedFd>,
    pub outputs: [Option<OwnedFd>; 2],
    /// Output the client has not taken yet.
    pub unsent: [VecDeque<u8>; 2],
}

impl Attached {
    /// Nothing connects the client any more.
    pub(super) fn is_gone(&self) -> bool {
        self.stdin.is_none() && self.outputs.iter().all(Option::is_none)
    }

    /// Writes what waits, as far as the client takes it. A client that is gone is let go.
    pub(super) fn flush(&mut self) {
        for (output, unsent) in self.outputs.iter_mut().zip(&mut self.unsent) {
            let Some(fd) = output else { continue };
            if is_broken(fd.as_fd()) || write_some(fd.as_fd(), unsent).is_err() {
                *output = None;
                *unsent = VecDeque::new();
            }
        }
    }
}

impl Streams {
    /// Must the container wait until attached clients have taken its output? A terminal's user expects every byte.
    pub(super) fn is_held_back(&self) -> bool {
        self.attached.iter().any(|attached| attached.unsent.iter().any(|unsent| !unsent.is_empty()))
    }

    /// Reads from one output what is there. `Ok(false)`: it is over.
    pub(super) fn read(&mut self, stream: Stream, log: &mut Log) -> io::Result<bool> {
        let source = if stream == Stream::Stdout && self.terminal.is_some() {
            &mut self.terminal
        } else {
            &mut self.outputs[stream as usize]
        };
        let Some(fd) = source else { return Ok(false) };
        let mut buffer = [0; CHUNK];
        match rustix::io::read(&*fd, &mut buffer) {
            Ok(count) if count > 0 => {
                // A full disk must not stop the container, and there is nowhere else to write to.
                let _ = log.write(stream, &buffer[..count]);
                for attached in &mut self.attached {
                    if attached.outputs[stream as usize].is_some() {
                        attached.unsent[stream as usize].extend(&buffer[..count]);
                        attached.flush();
                    }
                }
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            // A terminal answers EIO when nobody has its other end open.
            Ok(_) | Err(_) => {
                *source = None;
                let _ = log.finish(stream);
                Ok(false)
            }
        }
    }

    /// Takes input from an attached client.
    pub(super) fn take_input(&mut self, attached: usize) {
        let Some(client) = self.attached.get_mut(attached) else { return };
        let Some(fd) = &client.stdin else { return };
        let mut buffer = [0; CHUNK];
        match rustix::io::read(fd, &mut buffer) {
            Ok(count) if count > 0 => self.input.extend(&buffer[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            _ => client.stdin = None,
        }
        self.feed();
    }

    /// Gives the container its input, as far as it reads.
    pub(super) fn feed(&mut self) {
        let Some(fd) = self.terminal.as_ref().or(self.stdin.as_ref()) else {
            self.input.clear();
            return;
        };
        if write_some(fd.as_fd(), &mut self.input).is_err() {
            self.input.clear();
            self.stdin = None;
        }
        let feeders = self.attached.iter().filter(|client| client.stdin.is_some()).count();
        if self.stdin_once && feeders == 0 && self.input.is_empty() {
            self.stdin = None;
        }
        if self.input.is_empty() {
            self.input.shrink_to_fit();
        }
    }
}

/// Has a pipe lost its reader?
fn is_broken(fd: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now)).is_ok() && poll[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Writes the front of `bytes`; what does not fit stays. An error means that the reader is gone.
fn write_some(fd: BorrowedFd<'_>, bytes: &mut VecDeque<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        let (front, _) = bytes.as_slices();
        match rustix::io::write(fd, front) {
            Ok(count) => drop(bytes.drain(..count)),
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes the exit record where the next k3s finds it; whole or not at all.
pub(super) fn save_exit(directory: &Path, id: &str, exit: Exit) -> io::Result<()> {
    let path = directory.join(format!("{id}.exit"));
    let temporary = directory.join(format!("{id}.exit.new"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&exit)?)?;
    std::fs::rename(temporary, path)
}

/// How often the kernel's OOM killer struck in a cgroup.
pub(super) fn was_oom_killed(cgroup: &Path) -> bool {
    let mut text = String::new();
    let read = std::fs::File::open(cgroup.join("memory.events")).and_then(|mut file| file.read_to_string(&mut text));
    read.is_ok() && text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_whether_it_killed_for_want_of_memory() {
        let cgroup = tempfile::tempdir().unwrap();
        assert!(!was_oom_killed(cgroup.path()), "a host without the memory controller tells nothing");
        for (events, killed) in [("oom 1\noom_kill 0\n", false), ("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", true)]
        {
            std::fs::write(cgroup.path().join("memory.events"), events).unwrap();
            assert_eq!(was_oom_killed(cgroup.path()), killed, "{events}");
        }
    }
}
