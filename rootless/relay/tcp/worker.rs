//! A thread that accepts and relays.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::Listener;
use super::connection::{Connection, Next, Ready, Side};
use super::flow::Scratch;

/// For how long nothing is accepted after that has failed: out of descriptors, mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// What a worker is told to do.
pub(super) enum Command {
    Serve {
        port: u64,
        listener: Arc<Listener>,
    },
    /// Of a port that is not there it is no error. The sender is dropped when it is done.
    Close {
        port: u64,
        _closed: Option<Sender<()>>,
    },
    Stop,
}

/// The way to a worker.
pub(super) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { commands: Mutex::default(), bell })
    }

    pub(super) fn post(&self, command: Command) {
        self.commands.lock().push(command);
        // Fails only when it has been rung 2^64 times.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn empty(&self) -> Vec<Command> {
        // It has been rung, or is read once too often.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut self.commands.lock())
    }
}

/// Names what an event is of. Numbers are given once, so an event that comes late is of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Mailbox,
    Port(u64),
    Connection(u64, Side),
}

impl Token {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Mailbox => 0,
            Self::Port(port) => port << 2 | 1,
            Self::Connection(number, Side::Client) => number << 2 | 2,
            Self::Connection(number, Side::Server) => number << 2 | 3,
        })
    }

    fn of(data: epoll::EventData) -> Self {
        let data = data.u64();
        match data & 3 {
            0 => Self::Mailbox,
            1 => Self::Port(data >> 2),
            2 => Self::Connection(data >> 2, Side::Client),
            _ => Self::Connection(data >> 2, Side::Server),
        }
    }
}

pub(super) struct Worker {
    mailbox: Arc<Mailbox>,
    epoll: OwnedFd,
    ports: HashMap<u64, Arc<Listener>>,
    /// With the port they came by.
    connections: HashMap<u64, (u64, Connection)>,
    last: u64,
    scratch: Scratch,
    /// Those that may have more to move than they had a turn for.
    unfinished: Vec<u64>,
    /// When ports are to be listened to again.
    paused_until: Option<Instant>,
}

impl Worker {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &mailbox.bell, Token::Mailbox.data(), epoll::EventFlags::IN)?;
        Ok(Self {
            mailbox,
            epoll,
            ports: HashMap::new(),
            connections: HashMap::new(),
            last: 0,
            scratch: Scratch::default(),
            unfinished: Vec::new(),
            paused_until: None,
        })
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "relays of ports have ended: cannot wait for events");
                    return;
                }
            }
            self.resume();
            for event in &events {
                match Token::of(event.data) {
                    Token::Mailbox => {
                        for command in self.mailbox.empty() {
                            if self.obey(command).is_break() {
                                return;
                            }
                        }
                    }
                    Token::Port(port) => self.accept(port),
                    Token::Connection(number, side) => self.advance(number, Ready::of(side, event.flags)),
                }
            }
            for number in std::mem::take(&mut self.unfinished) {
                self.advance(number, Ready::ALL);
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let left = if self.unfinished.is_empty() {
            self.paused_until?.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() })
    }

    fn obey(&mut self, command: Command) -> std::ops::ControlFlow<()> {
        match command {
            Command::Serve { port, listener } => {
                if let Err(error) = self.listen(port, &listener) {
                    tracing::warn!(target = %listener.target, %error, "cannot relay a port");
                }
                self.ports.insert(port, listener);
            }
            Command::Close { port, _closed } => {
                if let Some(listener) = self.ports.remove(&port) {
                    // The socket stays open until the last worker has done so. It was not there while paused.
                    let _ = epoll::delete(&self.epoll, &listener.socket);
                }
                self.connections.retain(|_, (of, _)| *of != port);
            }
            Command::Stop => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }

    /// A new connection is one thread's business, so only one is woken.
    fn listen(&self, port: u64, listener: &Listener) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.epoll, &listener.socket, Token::Port(port).data(), flags)?)
    }

    fn pause(&mut self) {
        for listener in self.ports.values() {
            // It is not there if it was paused already.
            let _ = epoll::delete(&self.epoll, &listener.socket);
        }
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    fn resume(&mut self) {
        if self.paused_until.is_none_or(|until| until > Instant::now()) {
            return;
        }
        self.paused_until = None;
        for (port, listener) in &self.ports {
            match self.listen(*port, listener) {
                // One that was opened meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => tracing::warn!(target = %listener.target, %error, "cannot relay a port any more"),
                Ok(()) => {}
            }
        }
    }

    /// One connection. If there are more, the next wait says so.
    fn accept(&mut self, port: u64) {
        let Some(listener) = self.ports.get(&port).cloned() else { return };
        let accepted = acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let (client, from) = match accepted {
            Ok((client, from)) => (client, from.and_then(|from| SocketAddr::try_from(from).ok())),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return,
            Err(error) => {
                tracing::warn!(target = %listener.target, %error, "cannot accept a connection");
                return self.pause();
            }
        };
        // With TCP it is always there.
        let Some(from) = from else { return };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if let Err(error) = self.relay(port, client, from, &listener) {
            tracing::debug!(target = %listener.target, client = %from, %error, "cannot relay a connection");
        }
    }

    fn relay(&mut self, port: u64, client: OwnedFd, from: SocketAddr, listener: &Listener) -> io::Result<()> {
        let mut connection = Connection::open(client, from, listener.target, &listener.device, &mut self.scratch)?;
        self.last += 1;
        let number = self.last;
        for (side, socket, events) in connection.sockets() {
            epoll::add(&self.epoll, socket.as_fd(), Token::Connection(number, side).data(), events)?;
        }
        self.connections.insert(number, (port, connection));
        // What has happened until the sockets were added is an event now.
        Ok(())
    }

    fn advance(&mut self, number: u64, ready: Ready) {
        let Some((_, connection)) = self.connections.get_mut(&number) else { return };
        let next = connection.advance(ready, &mut self.scratch).and_then(|next| {
            for (side, socket, events) in connection.newly_full() {
                epoll::modify(&self.epoll, socket.as_fd(), Token::Connection(number, side).data(), events)?;
            }
            Ok(next)
        });
        match next {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.unfinished.push(number),
            Ok(Next::Over) => drop(self.connections.remove(&number)),
            Err(error) => {
                tracing::debug!(%error, "a relayed connection was broken off");
                self.connections.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_apart() {
        for token in [
            Token::Mailbox,
            Token::Port(1),
            Token::Connection(1, Side::Client),
            Token::Connection(1, Side::Server),
            Token::Connection(1 << 60, Side::Server),
        ] {
            assert_eq!(Token::of(token.data()), token);
        }
    }
}
