//! One relayed connection: a socket to the client, one to the server, and a flow of bytes each way.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_tcp_quickack};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::flow::{Ends, Flow, Outcome, Possible, Scratch};
use crate::relay::source::{self, Device};

pub(super) struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    upward: Flow,
    downward: Flow,
    /// The sockets whose room to write is waited for, too: once one has been full, or not yet connected.
    awaited: [bool; 2],
    /// One side has broken it off, so the other is to hear a reset rather than a regular end.
    broken: bool,
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

impl Ready {
    pub(super) const ALL: Self = Self { upward: Possible::Reading, downward: Possible::Reading };

    /// By an event of a socket: what can be read goes from it, what can be written to it.
    pub(super) fn of(side: Side, flags: EventFlags) -> Self {
        use EventFlags as Flags;
        let readable = flags.intersects(Flags::IN | Flags::RDHUP | Flags::ERR | Flags::HUP);
        let from = if readable { Possible::Reading } else { Possible::Nothing };
        let writable = flags.intersects(Flags::OUT | Flags::ERR | Flags::HUP);
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
    /// Begins to connect to `target`, and sends what the client has said already: mostly its first word is there, and
    /// with a server of this machine the connection, too. That it has failed shows with the first event.
    pub(super) fn open(
        client: OwnedFd,
        from: SocketAddr,
        target: SocketAddr,
        device: &Device,
        scratch: &mut Scratch,
    ) -> io::Result<Self> {
        let (mut upward, downward) = (Flow::new(false), Flow::new(true));
        upward.take_first(&client, scratch)?;
        let server = dial(from, target, device, upward.is_full())?;
        upward.give_first(Ends { from: &client, to: &server, last: false });
        Ok(Self { client, server, upward, downward, awaited: [false; 2], broken: false })
    }

    /// The sockets, and the events that are to be awaited of them.
    pub(super) fn sockets(&mut self) -> [(Side, &OwnedFd, EventFlags); 2] {
        self.awaited = [self.downward.is_full(), self.upward.is_full()];
        [(Side::Client, &self.client, events(self.awaited[0])), (Side::Server, &self.server, events(self.awaited[1]))]
    }

    /// A socket whose room to write is to be awaited from now on, and was not.
    pub(super) fn newly_full(&mut self) -> impl Iterator<Item = (Side, &OwnedFd, EventFlags)> {
        let full = [self.downward.is_full(), self.upward.is_full()];
        let sockets = [(Side::Client, &self.client), (Side::Server, &self.server)];
        let new =
            sockets.into_iter().zip(&mut self.awaited).zip(full).filter(|((_, awaited), full)| *full && !**awaited);
        new.map(|(((side, socket), awaited), _)| {
            *awaited = true;
            (side, socket, events(true))
        })
    }

    /// Moves what can be moved without waiting.
    ///
    /// # Errors
    /// A side has broken the connection off.
    pub(super) fn advance(&mut self, ready: Ready, scratch: &mut Scratch) -> io::Result<Next> {
        let ends = Ends { from: &self.client, to: &self.server, last: self.downward.has_ended() };
        let up = self.upward.advance(ready.upward, ends, scratch);
        let ends = Ends { from: &self.server, to: &self.client, last: self.upward.has_ended() };
        let down = self.downward.advance(ready.downward, ends, scratch);
        self.broken |= up.is_err() || down.is_err();
        let (up, down) = (up?, down?);
        if self.upward.is_done() && self.downward.is_done() {
            return Ok(Next::Over);
        }
        Ok(if up == Outcome::More || down == Outcome::More { Next::Again } else { Next::Wait })
    }
}

/// Edge-triggered. Room to write is there most of the time, and would be an event of its own at the beginning.
fn events(room_to_write: bool) -> EventFlags {
    use EventFlags as Flags;
    let always = Flags::IN | Flags::RDHUP | Flags::ET;
    if room_to_write { always | Flags::OUT } else { always }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.broken {
            for socket in [&self.client, &self.server] {
                // What can't be told by a reset is told by a regular end.
                let _ = set_socket_linger(socket, Some(Duration::ZERO));
            }
        }
    }
}

/// In the client's name where that works, and in this node's elsewhere. `speaks`: there is something to send at once.
fn dial(from: SocketAddr, target: SocketAddr, device: &Device, speaks: bool) -> io::Result<OwnedFd> {
    let new_socket = |target| {
        let socket = new_socket(target)?;
        if speaks {
            // The last packet of the handshake waits for the first data and goes with it (tcp(7)): there is one packet
            // less, and the server is woken once, when it has something to read.
            set_tcp_quickack(&socket, false)?;
        }
        io::Result::Ok(socket)
    };
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
