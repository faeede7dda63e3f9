//! Messages between the launcher and what it starts: JSON over a unix socket of sequenced packets,
//! each with at most one descriptor. The kernel keeps packets whole, so there is no framing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Far more than any message has.
const PACKET_MAX: usize = 32 * 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// An end that was inherited.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Closes the copy of this end that a fork has left in the calling process. As long as that
    /// process had it, it could not see the other side's end go.
    ///
    /// # Safety
    /// The calling process is such a copy and never uses or drops this end.
    pub unsafe fn close_copy(&self) {
        // SAFETY: the caller answers for it.
        unsafe { rustix::io::close(self.0.as_raw_fd()) }
    }

    pub fn send(&self, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > PACKET_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long for one packet"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() {
            // The space is for one descriptor, and there is one.
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The next message; `None` once the other end is closed. Received descriptors are close-on-exec.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut bytes = vec![0_u8; PACKET_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                // The other end died with our last message unread.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long for one packet"));
        }
        Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fd)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_message_takes_a_descriptor_along() {
        let (a, b) = Channel::pair().unwrap();
        let (mut read, write) = io::pipe().unwrap();
        a.send(&"here", Some(write.as_fd())).unwrap();
        drop(write);
        let (text, fd): (String, _) = b.receive().unwrap().unwrap();
        assert_eq!(text, "here");
        io::Write::write_all(&mut std::fs::File::from(fd.unwrap()), b"through").unwrap();
        let mut got = String::new();
        read.read_to_string(&mut got).unwrap();
        assert_eq!(got, "through");
    }

    #[test]
    fn the_end_is_not_an_error() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&1, None).unwrap();
        drop(a);
        assert_eq!(b.receive::<i32>().unwrap().unwrap().0, 1);
        assert!(b.receive::<i32>().unwrap().is_none());
        assert!(b.send(&2, None).is_err());
    }

    #[test]
    fn nonsense_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&"text", None).unwrap();
        assert!(b.receive::<i32>().is_err());
    }
}
