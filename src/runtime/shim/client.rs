//! The runtime's side of a shim: starting it, finding it again, asking and listening.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k3s_cri::Error;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Answer, Call, Exit, Message, Refusal, Request, SandboxSetup};
use super::{SETUP, SOCKET, pod_processes, socket};
use crate::descriptor;
use crate::executor::clone_tree;
use crate::record::NamedProcess;
use crate::syscall::{MountAttributes, mount_setattr};

/// How long a shim may take to set its sandbox up, or to answer what takes it no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a shim tells unasked.
#[derive(Debug)]
pub(crate) enum ShimEvent {
    ContainerExited {
        container: String,
        exit: Exit,
    },
    /// The connection broke: the shim is gone, or did not get rid of an event.
    Disconnected {
        sandbox_id: String,
    },
}

type Reply = (Result<Answer, Refusal>, Vec<OwnedFd>);

/// Calls and commands that wait for their end.
#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, oneshot::Sender<Reply>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    closed: bool,
}

/// A connection to a running shim.
pub(crate) struct ShimClient {
    sandbox_id: String,
    /// As `/proc` shows it; with the start time it names the process for ever.
    pub pid: i32,
    pub start_time: u64,
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl ShimClient {
    /// Starts a shim from `binary` with its state in `directory`, and waits until the sandbox stands.
    pub(crate) async fn start(
        binary: &Path,
        directory: &Path,
        setup: &SandboxSetup,
        events: mpsc::UnboundedSender<ShimEvent>,
    ) -> Result<Arc<Self>, Error> {
        let doing = || format!("start shim of sandbox {}", setup.sandbox_id);
        let failed = |detail: String| Error::Internal { doing: doing(), detail };
        let setup_path = directory.join(SETUP);
        let bytes = serde_json::to_vec(setup).map_err(|error| failed(error.to_string()))?;
        std::fs::write(&setup_path, bytes).map_err(|error| failed(error.to_string()))?;
        let (ours, theirs) = socket::pair().map_err(|error| failed(error.to_string()))?;
        let mut child = spawn(binary, directory, theirs).map_err(|error| failed(error.to_string()))?;
        let socket = nonblocking(ours).map_err(|error| failed(error.to_string()))?;
        let first = tokio::time::timeout(PATIENCE, receive(&socket)).await;
        // The process we started only makes the namespaces and the shim proper; it has ended by now or soon will.
        tokio::task::spawn_blocking(move || child.wait());
        let (pid, start_time) = match first {
            Ok(Ok(Some((Message::Ready { pid, start_time }, _)))) => (pid, start_time),
            Ok(Ok(Some((Message::Failed { detail }, _)))) => return Err(failed(detail)),
            Ok(Ok(_)) => return Err(failed(last_words(directory))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(Error::Timeout { doing: doing() }),
        };
        Ok(Self::run(setup.sandbox_id.clone(), socket, pid, start_time, events))
    }

    /// Connects to a shim that runs already. `NotFound` or `ConnectionRefused`: there is none.
    pub(crate) fn connect(
        sandbox_id: &str,
        directory: &Path,
        pid: i32,
        start_time: u64,
        events: mpsc::UnboundedSender<ShimEvent>,
    ) -> io::Result<Arc<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // Through a descriptor: a socket's address has room for 108 bytes.
        let parent = File::open(directory)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", parent.as_raw_fd()))?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self::run(sandbox_id.to_owned(), descriptor::register(socket)?, pid, start_time, events))
    }

    fn run(
        sandbox_id: String,
        socket: AsyncFd<OwnedFd>,
        pid: i32,
        start_time: u64,
        events: mpsc::UnboundedSender<ShimEvent>,
    ) -> Arc<Self> {
        let client = Arc::new(Self {
            sandbox_id,
            pid,
            start_time,
            socket,
            // Numbers of commands must not meet those of an earlier k3s.
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        });
        // Ends when the shim closes its end, which it does at the latest when it is shut down.
        tokio::spawn(client.clone().listen(events));
        client
    }

    async fn listen(self: Arc<Self>, events: mpsc::UnboundedSender<ShimEvent>) {
        while let Ok(Some((message, descriptors))) = receive(&self.socket).await {
            match message {
                Message::Reply { id, result } => {
                    if let Some(waiter) = self.waiting.lock().calls.remove(&id) {
                        // A caller that no longer waits does not want to know.
                        let _ = waiter.send((result, descriptors));
                    }
                }
                Message::ExecExited { exec, exit_code } => {
                    if let Some(waiter) = self.waiting.lock().execs.remove(&exec) {
                        let _ = waiter.send(exit_code);
                    }
                }
                Message::ContainerExited { container, exit } => {
                    let _ = events.send(ShimEvent::ContainerExited { container, exit });
                }
                Message::Ready { .. } | Message::Failed { .. } => {}
            }
        }
        *self.waiting.lock() = Waiting { closed: true, ..Waiting::default() };
        let _ = events.send(ShimEvent::Disconnected { sandbox_id: self.sandbox_id.clone() });
    }

    /// Has the connection ended?
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Asks, and waits for the answer and its descriptors.
    pub(crate) async fn call(
        &self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let doing = || format!("ask shim of sandbox {}", self.sandbox_id);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.register(|waiting| drop(waiting.calls.insert(id, sender)))?;
        let call = Call { id, request };
        let sent = self.socket.async_io(Interest::WRITABLE, |fd| socket::send(fd, &call, descriptors)).await;
        if let Err(error) = sent {
            self.waiting.lock().calls.remove(&id);
            return Err(Error::Internal { doing: doing(), detail: error.to_string() });
        }
        let (result, descriptors) = match tokio::time::timeout(PATIENCE * 4, receiver).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => return Err(self.gone()),
            Err(_) => return Err(Error::Timeout { doing: doing() }),
        };
        match result {
            Ok(answer) => Ok((answer, descriptors)),
            Err(Refusal::NotFound) => Err(Error::FailedPrecondition { detail: "container is not running".to_owned() }),
            Err(Refusal::Start { detail }) => Err(Error::Start { detail }),
            Err(Refusal::Internal { detail }) => Err(Error::Internal { doing: doing(), detail }),
        }
    }

    /// Sends a request whose answer nobody waits for. For destructors, which can't wait.
    pub(crate) fn notify(&self, request: Request) {
        let call = Call { id: 0, request };
        // If the buffer is full or the shim gone, the connection's end has the same effect.
        let _ = socket::send(self.socket.get_ref(), &call, &[]);
    }

    /// A number for a command, and what will tell its exit code.
    pub(crate) fn expect_exec(&self) -> Result<(u64, oneshot::Receiver<i32>), Error> {
        let exec = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.register(|waiting| drop(waiting.execs.insert(exec, sender)))?;
        Ok((exec, receiver))
    }

    pub(crate) fn forget_exec(&self, exec: u64) {
        self.waiting.lock().execs.remove(&exec);
    }

    fn register(&self, insert: impl FnOnce(&mut Waiting)) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(self.gone());
        }
        insert(&mut waiting);
        Ok(())
    }

    pub(crate) fn gone(&self) -> Error {
        Error::FailedPrecondition { detail: format!("the shim of sandbox {} is gone", self.sandbox_id) }
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, |fd| socket::receive::<Message>(fd)).await
}

fn nonblocking(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    descriptor::register(socket)
}

/// Starts the binary from a read-only copy of its mount: neither a container that gets hold of `/proc/<pid>/exe`
/// (CVE-2019-5736) nor anything else can write to the file through it, and no byte is copied.
fn spawn(binary: &Path, directory: &Path, socket: OwnedFd) -> io::Result<std::process::Child> {
    let mount = clone_tree(binary, false)?;
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV;
    mount_setattr(mount.as_fd(), MountAttributes { set, ..MountAttributes::default() })?;
    let words = File::options().create(true).append(true).open(directory.join("shim.log"))?;
    Command::new(format!("/proc/self/fd/{}", mount.as_raw_fd()))
        .arg0("k3s")
        .arg("shim")
        .arg(directory)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(words)
        .spawn()
}

/// What a shim that ended early wrote to its standard error.
fn last_words(directory: &Path) -> String {
    match std::fs::read_to_string(directory.join("shim.log")) {
        Ok(words) if !words.trim().is_empty() => words.trim().to_owned(),
        _ => "it ended at once".to_owned(),
    }
}

/// The shim that listens in a state directory.
pub(crate) fn process_behind(directory: &Path) -> io::Result<NamedProcess> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let parent = File::open(directory)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", parent.as_raw_fd()))?;
    rustix::net::connect(&socket, &address)?;
    // The kernel's word on who called `listen`, in terms of this process's pid namespace.
    let pid = rustix::net::sockopt::socket_peercred(&socket)?.pid.as_raw_nonzero().get();
    Ok(NamedProcess { pid, start_time: pod_processes::start_time(&pid.to_string())? })
}
