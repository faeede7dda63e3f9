//! Pipes: what splice(2) moves bytes through. Pages are passed on in them, and not copied.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Empty pipes that are kept. A connection has one only while bytes are on their way, so a few serve many.
const KEPT: usize = 32;
/// Large pipes of a thread at a time. What a user's pipes may hold together is limited (fs.pipe-user-pages-soft, 64 MiB),
/// and pods have some as well.
const LARGE: usize = 8;
/// What a large pipe holds, and one call moves. The usual 64 KiB are one packet of the loopback device: each would be waited
/// for, and wake the receiver, on its own. The kernel gives ordinary users no more than this (fs.pipe-max-size).
const SIZE: usize = 1 << 20;

/// Bytes that have left one socket and not yet reached the other.
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
    _large: Option<Arc<()>>,
}

/// The pipes of a thread.
#[derive(Default)]
pub(super) struct Pipes {
    empty: Vec<Pipe>,
    /// Shared by the large ones, to count them.
    large: Arc<()>,
}

impl Pipes {
    /// An empty one.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(super) fn take(&mut self) -> io::Result<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let may = Arc::strong_count(&self.large) <= LARGE;
        // A small one takes more calls.
        let _large = (may && fcntl_setpipe_size(&out, SIZE).is_ok()).then(|| self.large.clone());
        Ok(Pipe { out, into, held: 0, _large })
    }

    /// Takes an empty one back.
    pub(super) fn put(&mut self, pipe: Pipe) {
        if pipe.held == 0 && self.empty.len() < KEPT {
            self.empty.push(pipe);
        }
    }
}

impl Pipe {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what the socket has, without waiting. Zero bytes are the sender's end.
    ///
    /// # Errors
    /// `WouldBlock`, or that of the connection.
    pub(super) fn fill(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let taken = splice(socket, None, &self.into, None, SIZE, flags)?;
        self.held += taken;
        Ok(taken)
    }

    /// Gives the socket as much as it takes, without waiting.
    ///
    /// # Errors
    /// `WouldBlock`, or that of the connection.
    pub(super) fn drain(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let given = splice(&self.out, None, socket, None, self.held, flags)?;
        if given == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held -= given;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_beyond_the_large_ones_are_small() {
        let mut pipes = Pipes::default();
        let taken: Vec<Pipe> = (0..LARGE + 1).map(|_| pipes.take().unwrap()).collect();
        let size = |pipe: &Pipe| rustix::pipe::fcntl_getpipe_size(&pipe.out).unwrap();
        assert!(taken[..LARGE].iter().all(|pipe| size(pipe) == SIZE) && size(&taken[LARGE]) < SIZE);
        drop(taken);
        assert_eq!(size(&pipes.take().unwrap()), SIZE);
    }
}
