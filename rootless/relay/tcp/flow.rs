//! One direction of a relayed connection.
//!
//! Little is read into a buffer and sent on: that is two calls, and for most connections all there is. What fills the
//! buffer is followed by more, which goes through a pipe from then on ([`super::pipe`]) and is not copied.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::pipe::{Pipe, Pipes};

/// How often a flow is filled and drained before others have their turn.
const ROUNDS: usize = 16;
/// What is little.
const LITTLE: usize = 16 * 1024;

/// What the flows of a thread move bytes with.
pub(super) struct Scratch {
    pipes: Pipes,
    buffer: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { pipes: Pipes::default(), buffer: vec![0; LITTLE].into() }
    }
}

/// What has become possible in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Possible {
    Nothing,
    /// To give on what is held; nothing if there is none.
    Writing,
    /// To read until there is nothing more.
    Reading,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Blocked,
    More,
}

/// Bytes that have left one socket and not yet reached the other.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    Pipe(Pipe),
}

/// Where bytes come from and go to.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub from: &'a OwnedFd,
    pub to: &'a OwnedFd,
    /// The other direction has ended, and the connection goes with this.
    pub last: bool,
}

pub(super) struct Flow {
    held: Held,
    /// Through a pipe.
    is_much: bool,
    /// The receiver's socket sends a small piece at once, though the one before has not been acknowledged yet. It is told
    /// so with the second: the first goes at once anyway, and often it is the only one.
    prompt: Prompt,
    /// The sender has no more to say.
    ended: bool,
    /// And the receiver knows.
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    NothingSent,
    SentOnce,
    Told,
}

impl Flow {
    /// `prompt`: the receiver's socket has `TCP_NODELAY` already.
    pub(super) fn new(prompt: bool) -> Self {
        let prompt = if prompt { Prompt::Told } else { Prompt::NothingSent };
        Self { held: Held::Nothing, is_much: false, prompt, ended: false, done: false }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.done
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// It waits for the receiver to take more.
    pub(super) fn is_full(&self) -> bool {
        !self.done && !matches!(self.held, Held::Nothing)
    }

    /// Moves what it can without waiting.
    ///
    /// # Errors
    /// The sender has broken the connection off.
    pub(super) fn advance(&mut self, possible: Possible, ends: Ends<'_>, scratch: &mut Scratch) -> io::Result<Outcome> {
        let nothing = match possible {
            Possible::Nothing => true,
            Possible::Writing => !self.is_full(),
            Possible::Reading => false,
        };
        if nothing || self.done {
            return Ok(Outcome::Blocked);
        }
        if let Held::Bytes(bytes) = &mut self.held {
            let bytes = std::mem::take(bytes);
            self.held = Held::Nothing;
            self.give(&bytes, ends);
            if self.done || self.is_full() {
                return Ok(Outcome::Blocked);
            }
            if self.ended {
                return Ok(self.end(ends));
            }
        }
        if !self.is_much {
            self.carry_little(ends, &mut scratch.buffer)?;
            if !self.is_much || self.done || self.is_full() {
                return Ok(Outcome::Blocked);
            }
        }
        self.carry_much(ends, &mut scratch.pipes)
    }

    /// Takes the sender's first word, if it is there, for [`Self::give_first`].
    ///
    /// # Errors
    /// The sender has broken the connection off.
    pub(super) fn take_first(&mut self, from: &OwnedFd, scratch: &mut Scratch) -> io::Result<()> {
        match rustix::io::read(from, &mut *scratch.buffer).map_err(io::Error::from) {
            // An end shows again with the first event.
            Ok(0) => Ok(()),
            Ok(length) => {
                self.held = Held::Bytes(scratch.buffer[..length].to_vec());
                Ok(())
            }
            Err(error) if is_no_error(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the first word. What follows is announced.
    pub(super) fn give_first(&mut self, ends: Ends<'_>) {
        if let Held::Bytes(bytes) = std::mem::take(&mut self.held) {
            self.give(&bytes, ends);
        }
    }

    fn carry_little(&mut self, ends: Ends<'_>, buffer: &mut [u8]) -> io::Result<()> {
        let (mut length, mut broken) = (0, None);
        while length < buffer.len() {
            match rustix::io::read(ends.from, &mut buffer[length..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                // Once more: it may have been the last word, and the end goes with it.
                Ok(read) => length += read,
                Err(error) => {
                    broken = Some(io::Error::from(error)).filter(|error| !is_no_error(error));
                    break;
                }
            }
        }
        self.is_much = length == buffer.len();
        if length > 0 {
            self.give(&buffer[..length], ends);
        }
        match broken {
            Some(error) => Err(error),
            None => {
                if self.ended && !self.done && !self.is_full() {
                    self.end(ends);
                }
                Ok(())
            }
        }
    }

    /// Sends bytes, and holds what is not taken.
    fn give(&mut self, bytes: &[u8], ends: Ends<'_>) {
        self.make_prompt(ends.to);
        // With the end right behind, both go in one packet.
        let more = if self.ended { SendFlags::MORE } else { SendFlags::empty() };
        let taken = match send(ends.to, bytes, SendFlags::NOSIGNAL | more) {
            Ok(taken) => taken,
            Err(error) if is_no_error(&error.into()) => 0,
            Err(_) => {
                // The receiver takes no more. It may still have something to say in the other direction.
                self.done = true;
                return;
            }
        };
        if taken < bytes.len() {
            self.held = Held::Bytes(bytes[taken..].to_vec());
        }
    }

    fn make_prompt(&mut self, to: &OwnedFd) {
        self.prompt = match self.prompt {
            Prompt::NothingSent => Prompt::SentOnce,
            Prompt::SentOnce => {
                // Without, it is slower, no more.
                let _ = set_tcp_nodelay(to, true);
                Prompt::Told
            }
            Prompt::Told => return,
        };
    }

    fn carry_much(&mut self, ends: Ends<'_>, pipes: &mut Pipes) -> io::Result<Outcome> {
        self.make_prompt(ends.to);
        let mut pipe = match std::mem::take(&mut self.held) {
            Held::Pipe(pipe) => pipe,
            _ => pipes.take()?,
        };
        let outcome = self.splice(&mut pipe, ends);
        if pipe.is_empty() {
            pipes.put(pipe);
        } else if !self.done {
            self.held = Held::Pipe(pipe);
        }
        outcome
    }

    fn splice(&mut self, pipe: &mut Pipe, ends: Ends<'_>) -> io::Result<Outcome> {
        for _ in 0..ROUNDS {
            if pipe.is_empty() && !self.ended {
                match pipe.fill(ends.from) {
                    Ok(0) => self.ended = true,
                    Ok(_) => {}
                    Err(error) if is_no_error(&error) => return Ok(Outcome::Blocked),
                    Err(error) => return Err(error),
                }
            }
            if pipe.is_empty() {
                return Ok(self.end(ends));
            }
            match pipe.drain(ends.to) {
                Ok(()) => {}
                Err(error) if is_no_error(&error) => return Ok(Outcome::Blocked),
                Err(_) => {
                    // As in `give`.
                    self.done = true;
                    return Ok(Outcome::Blocked);
                }
            }
        }
        Ok(Outcome::More)
    }

    /// Tells the receiver that there is no more.
    fn end(&mut self, ends: Ends<'_>) -> Outcome {
        self.done = true;
        if !ends.last {
            // A receiver that is gone needs no word of the end.
            let _ = shutdown(ends.to, Shutdown::Write);
        }
        Outcome::Blocked
    }
}

fn is_no_error(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
