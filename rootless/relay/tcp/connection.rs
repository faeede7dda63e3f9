//! One relayed connection: a socket to the client, one to the server, and a flow of bytes each way.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_tcp_nodelay};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, connect, shutdown, socket_with};

use super::pipe::{Pipe, Pipes};
use crate::relay::source::{self, Device};

/// How often a flow is filled and drained before others have their turn.
const ROUNDS: usize = 16;

pub(super) struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    upward: Flow,
    downward: Flow,
    /// One side has broken it off, so the other is to hear a reset rather than a regular end.
    broken: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Only while it holds something.
    pipe: Option<Pipe>,
    /// The sender has no more to say.
    ended: bool,
    /// And the receiver knows.
    done: bool,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What has become possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    upward: Possible,
    downward: Possible,
}

/// In one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Possible {
    Nothing,
    /// To give on what is held; nothing if there is none.
    Writing,
    Both,
}

impl Ready {
    pub(super) const ALL: Self = Self { upward: Possible::Both, downward: Possible::Both };

    /// By an event of a socket: what can be read goes from it, what can be written to it.
    pub(super) fn of(side: Side, flags: EventFlags) -> Self {
        use EventFlags as Flags;
        let readable = flags.intersects(Flags::IN | Flags::RDHUP | Flags::ERR | Flags::HUP);
        let writable = flags.intersects(Flags::OUT | Flags::ERR | Flags::HUP);
        let from = if readable { Possible::Both } else { Possible::Nothing };
        let to = if writable { Possible::Writing } else { Possible::Nothing };
        match side {
            Side::Client => Self { upward: from, downward: to },
            Side::Server => Self { upward: to, downward: from },
        }
    }
}

/// What is to happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// An event is to be awaited.
    Wait,
    /// There may be more to move.
    Again,
    /// Both directions have ended.
    Over,
}

impl Connection {
    /// Begins to connect to `target`. That this is done, or has failed, shows in the first bytes that are moved.
    pub(super) fn open(client: OwnedFd, from: SocketAddr, target: SocketAddr, device: &Device) -> io::Result<Self> {
        let server = dial(from, target, device)?;
        set_tcp_nodelay(&server, true)?;
        Ok(Self { client, server, upward: Flow::default(), downward: Flow::default(), broken: false })
    }

    pub(super) fn sockets(&self) -> [(Side, &OwnedFd); 2] {
        [(Side::Client, &self.client), (Side::Server, &self.server)]
    }

    /// Moves what can be moved without waiting.
    ///
    /// # Errors
    /// A side has broken the connection off.
    pub(super) fn advance(&mut self, ready: Ready, pipes: &mut Pipes) -> io::Result<Next> {
        let last = self.downward.has_ended();
        let up = self.upward.advance(ready.upward, (&self.client, &self.server), last, pipes);
        let last = self.upward.has_ended();
        let down = self.downward.advance(ready.downward, (&self.server, &self.client), last, pipes);
        self.broken |= up.is_err() || down.is_err();
        let (up, down) = (up?, down?);
        if self.upward.done && self.downward.done {
            return Ok(Next::Over);
        }
        Ok(if up == Outcome::More || down == Outcome::More { Next::Again } else { Next::Wait })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.broken {
            for (_, socket) in self.sockets() {
                // What can't be told by a reset is told by a regular end.
                let _ = set_socket_linger(socket, Some(Duration::ZERO));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Blocked,
    More,
}

impl Flow {
    fn has_ended(&self) -> bool {
        self.ended && self.done
    }

    /// Moves what it can between two sockets. `last`: the other direction has ended, and the connection goes with this.
    fn advance(
        &mut self,
        possible: Possible,
        sockets: (&OwnedFd, &OwnedFd),
        last: bool,
        pipes: &mut Pipes,
    ) -> io::Result<Outcome> {
        let nothing = match possible {
            Possible::Nothing => true,
            Possible::Writing => self.pipe.is_none(),
            Possible::Both => false,
        };
        if nothing || self.done {
            return Ok(Outcome::Blocked);
        }
        let mut pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => pipes.take()?,
        };
        let outcome = self.carry(&mut pipe, sockets, last);
        if pipe.is_empty() {
            pipes.put(pipe);
        } else if !self.done {
            self.pipe = Some(pipe);
        }
        outcome
    }

    fn carry(&mut self, pipe: &mut Pipe, (from, to): (&OwnedFd, &OwnedFd), last: bool) -> io::Result<Outcome> {
        for _ in 0..ROUNDS {
            if pipe.is_empty() && !self.ended {
                match pipe.fill(from) {
                    Ok(0) => self.ended = true,
                    Ok(_) => {}
                    Err(error) if is_no_error(&error) => return Ok(Outcome::Blocked),
                    Err(error) => return Err(error),
                }
            }
            if pipe.is_empty() {
                self.done = true;
                if !last {
                    // A receiver that is gone needs no word of the end.
                    let _ = shutdown(to, Shutdown::Write);
                }
                return Ok(Outcome::Blocked);
            }
            match pipe.drain(to) {
                Ok(()) => {}
                Err(error) if is_no_error(&error) => return Ok(Outcome::Blocked),
                Err(_) => {
                    // The receiver takes no more. It may still have something to say in the other direction.
                    self.done = true;
                    return Ok(Outcome::Blocked);
                }
            }
        }
        Ok(Outcome::More)
    }
}

fn is_no_error(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// In the client's name where that works, and in this node's elsewhere.
fn dial(from: SocketAddr, target: SocketAddr, device: &Device) -> io::Result<OwnedFd> {
    let socket = new_socket(target)?;
    let named = source::assume(&socket, from, target, device);
    if let Ok(true) = named {
        match begin(&socket, target) {
            // There is such a connection already, of the client to this target by another port of the host.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            begun => return begun.map(|()| socket),
        }
    }
    let socket = match named {
        Ok(false) => socket,
        Ok(true) => new_socket(target)?,
        Err(error) => {
            tracing::debug!(client = %from, %target, %error, "cannot keep a client's address");
            new_socket(target)?
        }
    };
    begin(&socket, target).map(|()| socket)
}

fn new_socket(target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

fn begin(socket: &OwnedFd, target: SocketAddr) -> io::Result<()> {
    match connect(socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
