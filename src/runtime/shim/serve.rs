//! The shim's loop: requests in, events out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::container::{Attached, Container};
use super::protocol::{Answer, Call, Message, Refusal, Request, SandboxSetup};
use super::start::{self, Exec, Namespaces};
use super::wait::{self, Ready};
use super::{SOCKET, pod_processes, socket};
use crate::syscall;

/// A runtime connected to this shim.
pub(super) struct Connection {
    pub number: u64,
    pub socket: OwnedFd,
}

/// Everything the shim knows.
pub(super) struct Shim {
    pub directory: PathBuf,
    pub listener: OwnedFd,
    pub signals: SignalFd,
    pub connections: Vec<Connection>,
    next_connection: u64,
    pub containers: Vec<Container>,
    pub execs: Vec<Exec>,
    pub namespaces: Namespaces,
    /// Exit codes of children that nobody has told of yet: another OCI runtime has made them, and its driver will.
    pub unknown: HashMap<i32, i32>,
    /// A runtime has asked for something, so it has noted that this shim exists.
    adopted: bool,
    ending: bool,
}

/// What a request got, with descriptors to send along. `None`: the reply comes later.
type Outcome = Option<(Result<Answer, Refusal>, Vec<OwnedFd>)>;

fn done() -> Outcome {
    Some((Ok(Answer::Done), Vec::new()))
}

fn refused(refusal: Refusal) -> Outcome {
    Some((Err(refusal), Vec::new()))
}

fn internal(doing: &str, error: &io::Error) -> Outcome {
    refused(Refusal::Internal { detail: format!("{doing}: {error}") })
}

impl Shim {
    /// `users`: the pod's user namespace, where it has one.
    pub(super) fn new(
        directory: PathBuf,
        setup: SandboxSetup,
        users: Option<OwnedFd>,
        runtime: OwnedFd,
    ) -> Result<Self, String> {
        let step = |doing: &'static str| move |error: io::Error| format!("{doing}: {error}");
        nix::unistd::setsid().map_err(|error| format!("setsid: {error}"))?;
        let _ = rustix::thread::set_name(c"k3s-shim");
        syscall::hide_from_ptrace().map_err(step("clear dumpable flag"))?;
        syscall::become_subreaper().map_err(step("become subreaper"))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().map_err(|error| format!("block SIGCHLD: {error}"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|error| format!("signalfd: {error}"))?;
        let users = users.zip(setup.user);
        let namespaces = Namespaces::new(setup.pid, users).map_err(step("make the pod's pid namespace"))?;
        let listener = listen(&directory).map_err(step("listen"))?;
        let proc_pid = std::fs::read_link("/proc/self").map_err(step("read /proc/self"))?;
        let pid = proc_pid.to_str().and_then(|pid| pid.parse().ok()).ok_or("bad /proc/self")?;
        let start_time = pod_processes::start_time("self").map_err(step("read start time"))?;
        socket::send(&runtime, &Message::Ready { pid, start_time }, &[]).map_err(step("report ready"))?;
        rustix::io::ioctl_fionbio(&runtime, true).map_err(|error| format!("set socket non-blocking: {error}"))?;
        let connections = vec![Connection { number: 0, socket: runtime }];
        Ok(Self {
            directory,
            listener,
            signals,
            connections,
            next_connection: 1,
            containers: Vec::new(),
            execs: Vec::new(),
            namespaces,
            unknown: HashMap::new(),
            adopted: false,
            ending: false,
        })
    }

    pub(super) fn run(mut self) -> Result<(), String> {
        while !self.ending {
            for ready in wait::wait(&self) {
                self.handle(ready);
            }
            self.tidy();
        }
        for container in self.containers.iter().filter(|container| container.exit.is_none()) {
            end(container);
        }
        // Being the first process of its pid namespace, the shim takes the rest with it.
        Ok(())
    }

    /// Containers and their clients are only removed in `tidy`, so that the indexes of one wait stay good.
    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Connection => self.accept(),
            Ready::Signal => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Ready::Call { connection } => self.receive(connection),
            Ready::ContainerProgress { container } => self.container_progress(container),
            Ready::ExecProgress { pid } => self.exec_progress(pid),
            Ready::Output { container, stream } => {
                let container = &mut self.containers[container];
                let _ = container.streams.read(stream, &mut container.log);
            }
            Ready::Input { container } => self.containers[container].streams.feed(),
            Ready::AttachedInput { container, attached } => {
                self.containers[container].streams.take_input(attached);
            }
            Ready::AttachedOutput { container } => {
                self.containers[container].streams.attached.iter_mut().for_each(Attached::flush);
            }
        }
    }

    fn tidy(&mut self) {
        for container in &mut self.containers {
            container.streams.attached.retain(|attached| !attached.is_gone());
        }
        // A container that never began is the caller's to report, not ours to remember.
        self.containers
            .retain(|container| container.exit.is_none() || (container.started_at != 0 && !container.forgotten));
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.connections.push(Connection { number: self.next_connection, socket });
            self.next_connection += 1;
        }
    }

    fn receive(&mut self, number: u64) {
        let Some(connection) = self.connections.iter().find(|connection| connection.number == number) else { return };
        match socket::receive::<Call>(&connection.socket) {
            Ok(Some((call, descriptors))) => {
                self.adopted = true;
                if let Some((result, attached)) = self.serve(number, call.id, call.request, descriptors) {
                    self.reply(number, call.id, result, &attached);
                }
            }
            Err(error) if socket::is_transient(&error) => {}
            // A request from a future this shim does not know, or a runtime that is gone: its commands end with it.
            Ok(None) | Err(_) => {
                self.connections.retain(|connection| connection.number != number);
                // The runtime that started this shim was killed before it could note it: nobody would ever end it.
                self.ending |= !self.adopted;
                for exec in self.execs.iter().filter(|exec| exec.connection == number) {
                    kill_session(exec.pid);
                }
            }
        }
    }

    pub(super) fn reply(&mut self, number: u64, id: u64, result: Result<Answer, Refusal>, descriptors: &[OwnedFd]) {
        self.tell(|known| known == number, &Message::Reply { id, result }, descriptors);
    }

    /// Sends a message to the connections chosen. One that can't take it is closed: whoever is behind it connects
    /// again and asks for the state, and so misses nothing.
    pub(super) fn tell(&mut self, chosen: impl Fn(u64) -> bool, message: &Message, descriptors: &[OwnedFd]) {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.connections.retain(|connection| {
            !chosen(connection.number) || socket::send(&connection.socket, message, &borrowed).is_ok()
        });
    }

    fn serve(&mut self, connection: u64, id: u64, request: Request, mut descriptors: Vec<OwnedFd>) -> Outcome {
        match request {
            Request::State => {
                let containers = self.containers.iter().map(Container::describe).collect();
                Some((Ok(Answer::State { containers }), Vec::new()))
            }
            Request::Start(request) => {
                let target = match request.target.as_deref().map(|target| self.running(target)) {
                    // It has ended since the runtime looked.
                    Some(None) => return refused(Refusal::NotFound),
                    target => target.flatten(),
                };
                match start::container(&request, target, descriptors.pop(), &self.namespaces, (connection, id)) {
                    Ok(container) => {
                        self.containers.push(container);
                        None
                    }
                    Err(error) => internal(&format!("start container {}", request.container), &error),
                }
            }
            Request::Exec { exec, container, terminal: _, cgroup } => {
                let Some(container) = self.running(&container) else { return refused(Refusal::NotFound) };
                let started =
                    start::exec(exec, container, descriptors, cgroup.as_deref(), &self.namespaces, (connection, id));
                match started {
                    Ok(exec) => {
                        self.execs.push(exec);
                        None
                    }
                    Err(error) => internal("start command", &error),
                }
            }
            Request::Signal { container, signal } => {
                let Some(container) = self.running(&container) else { return refused(Refusal::NotFound) };
                if signal == libc::SIGKILL {
                    end(container);
                    return done();
                }
                match syscall::signal_process(container.pidfd.as_fd(), signal) {
                    Ok(()) => done(),
                    Err(error) => internal(&format!("send signal {signal}"), &error),
                }
            }
            Request::KillExec { exec } => {
                let found = self.execs.iter().find(|known| known.connection == connection && known.number == exec);
                if let Some(exec) = found {
                    kill_session(exec.pid);
                }
                done()
            }
            Request::Resize { container, width, height } => {
                let Some(container) = self.running(&container) else { return refused(Refusal::NotFound) };
                let Some(terminal) = &container.streams.terminal else { return done() };
                let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
                match rustix::termios::tcsetwinsize(terminal, size) {
                    Ok(()) => done(),
                    Err(error) => internal("resize terminal", &error.into()),
                }
            }
            Request::ReopenLog { container } => {
                let found = self.containers.iter_mut().find(|known| known.id == container);
                let Some(container) = found else { return refused(Refusal::NotFound) };
                match container.log.reopen() {
                    Ok(()) => done(),
                    Err(error) => internal("reopen log", &error),
                }
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                let found = self.containers.iter_mut().find(|known| known.id == container && known.exit.is_none());
                let Some(container) = found else { return refused(Refusal::NotFound) };
                let mut descriptors = descriptors.into_iter();
                let mut next = |wanted: bool| if wanted { descriptors.next() } else { None };
                let attached =
                    Attached { stdin: next(stdin), outputs: [next(stdout), next(stderr)], ..Attached::default() };
                for fd in attached.stdin.iter().chain(attached.outputs.iter().flatten()) {
                    let _ = rustix::io::ioctl_fionbio(fd, true);
                }
                container.streams.attached.push(attached);
                done()
            }
            Request::Connect { port } => match connect(port) {
                Ok(socket) => Some((Ok(Answer::Done), vec![socket])),
                Err(error) => internal(&format!("connect to port {port}"), &error),
            },
            Request::Remove { container } => {
                if let Some(container) = self.containers.iter_mut().find(|known| known.id == container) {
                    container.forgotten = true;
                }
                done()
            }
            Request::Shutdown => {
                self.ending = true;
                done()
            }
        }
    }

    fn running(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|known| known.id == id && known.exit.is_none())
    }
}

/// Kills a container with all its processes.
pub(super) fn end(container: &Container) {
    let _ = syscall::signal_process(container.pidfd.as_fd(), libc::SIGKILL);
    if let (false, Some(namespace)) = (container.own_pids, container.mount_namespace) {
        pod_processes::kill_in_mount_namespace(namespace);
    }
}

/// Kills a command with what it started; it is the leader of a session and its process group.
fn kill_session(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::killpg(pid, Signal::SIGKILL);
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
}

fn listen(directory: &std::path::Path) -> io::Result<OwnedFd> {
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // Only the owner may connect; the directory is private as well.
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    // Through a descriptor: a socket's address has room for 108 bytes, less than a path may have.
    let parent = File::open(directory)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", parent.as_raw_fd()))?;
    let bound = rustix::net::bind(&listener, &address);
    nix::sys::stat::umask(old);
    bound?;
    rustix::net::listen(&listener, 8)?;
    Ok(listener)
}

/// Connects to a port on the sandbox's loopback, where this process is.
fn connect(port: u16) -> io::Result<OwnedFd> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    // Loopback answers at once, so the loop does not stand still.
    let stream = TcpStream::connect_timeout(&address.into(), std::time::Duration::from_secs(1)).or_else(|error| {
        let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        TcpStream::connect_timeout(&v6, std::time::Duration::from_secs(1)).map_err(|_| error)
    })?;
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}
