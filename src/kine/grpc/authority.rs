//! Lets clients in that put no host into a request's `:authority`.
//!
//! Go's gRPC before 1.31, which etcd 3.4's client has, and other implementations to this day send the path of a unix
//! socket there (`/run/kine.sock`), and `etcdctl endpoint status` the whole URL. The `h2` crate refuses such requests
//! as malformed (<https://github.com/hyperium/h2/issues/442>). Nothing here needs the authority, so each one that a client
//! writes out is replaced on the way in by one that is valid.
//!
//! Both sides of a connection keep a table of headers and must agree on the size of its entries, so the replacement is
//! as long as what it replaces (RFC 7541, section 4.1).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends before all frames.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length, type, flags and stream of a frame (RFC 9113, section 4.1).
const FRAME_HEADER: usize = 9;
/// The longest frame that may be sent unless both agree on more.
const LONGEST: usize = 16384;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The index of `:authority` in the table that every connection begins with.
const AUTHORITY: usize = 1;
/// Read from the connection at once.
const READ: usize = 16 << 10;

/// A server's connection whose requests have valid authorities.
pub(super) struct Tolerant<S> {
    inner: S,
    received: BytesMut,
    ready: BytesMut,
    /// Bytes that are to go through as they are.
    pass: usize,
}

impl<S> Tolerant<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, received: BytesMut::new(), ready: BytesMut::new(), pass: PREFACE }
    }

    /// Moves what is complete from `received` to `ready`.
    fn advance(&mut self) {
        loop {
            let pass = self.pass.min(self.received.len());
            if pass > 0 {
                let passed = self.received.split_to(pass);
                self.pass -= pass;
                append(&mut self.ready, passed);
            }
            let Some(header) = self.received.first_chunk::<FRAME_HEADER>() else { return };
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            // A block that goes on in another frame is passed on; no client writes that many headers.
            if kind != HEADERS || flags & END_HEADERS == 0 || length > LONGEST {
                self.pass = FRAME_HEADER + length;
                continue;
            }
            if self.received.len() < FRAME_HEADER + length {
                return;
            }
            let frame = self.received.split_to(FRAME_HEADER + length);
            append(&mut self.ready, replaced(&frame, flags).unwrap_or(frame));
        }
    }
}

fn append(ready: &mut BytesMut, bytes: BytesMut) {
    if ready.is_empty() {
        *ready = bytes;
    } else {
        ready.extend_from_slice(&bytes);
    }
}

/// The frame with a valid authority, if it has one written out.
fn replaced(frame: &[u8], flags: u8) -> Option<BytesMut> {
    let mut start = FRAME_HEADER;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(start)?))?;
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let text = authority(frame.get(start..end)?)?;
    let mut value = Vec::new();
    integer(text.decoded, 7, &mut value);
    value.resize(value.len() + text.decoded, b'a');

    let mut new = BytesMut::with_capacity(frame.len() + text.decoded);
    new.extend_from_slice(&frame[..start + text.start]);
    new.extend_from_slice(&value);
    new.extend_from_slice(&frame[start + text.end..]);
    let length = u32::try_from(new.len() - FRAME_HEADER).ok().filter(|length| *length as usize <= LONGEST)?;
    new[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(new)
}

/// A string in a block of headers: where it begins and ends, its length included, and how long it is decoded.
struct Text {
    start: usize,
    end: usize,
    decoded: usize,
}

/// The value of the authority in a block of headers (RFC 7541, section 6), if it is written out.
fn authority(block: &[u8]) -> Option<Text> {
    let mut at = 0;
    let mut found = None;
    while let Some(first) = block.get(at) {
        let prefix = match first {
            // Both name and value are in the table; or the table's size changes.
            0x80.. => 7,
            0x40..=0x7f => 6,
            0x20..=0x3f => 5,
            _ => 4,
        };
        let index = read_integer(block, &mut at, prefix)?;
        if prefix == 7 || prefix == 5 {
            continue;
        }
        if index == 0 {
            at = text(block, at)?.end;
        }
        let value = text(block, at)?;
        at = value.end;
        if index == AUTHORITY {
            found = Some(value);
        }
    }
    found
}

fn text(block: &[u8], start: usize) -> Option<Text> {
    let mut at = start;
    let huffman = block.get(at)? & 0x80 != 0;
    let length = read_integer(block, &mut at, 7)?;
    let end = at.checked_add(length)?;
    let bytes = block.get(at..end)?;
    Some(Text { start, end, decoded: if huffman { symbols(bytes)? } else { length } })
}

/// Reads an integer whose first byte has `prefix` bits of it (RFC 7541, section 5.1).
fn read_integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Writes one, with the bits before the prefix zero.
fn integer(value: usize, prefix: u32, to: &mut Vec<u8>) {
    let most = (1usize << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if value < most {
        to.push(byte(value));
        return;
    }
    to.push(byte(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        to.push(byte(rest & 0x7f | 0x80));
        rest >>= 7;
    }
    to.push(byte(rest));
}

/// How many symbols of HPACK's Huffman code have each length in bits (RFC 7541, appendix B). The code is canonical: this
/// says where symbols end.
const LENGTHS: [u32; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The number of symbols in Huffman-coded bytes; none if it is no such code.
fn symbols(bytes: &[u8]) -> Option<usize> {
    let (mut count, mut code, mut first, mut length) = (0, 0u32, 0u32, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1))) {
        code = code << 1 | bit;
        first = (first + LENGTHS[length]) << 1;
        length += 1;
        let of_length = *LENGTHS.get(length)?;
        if code - first < of_length {
            count += 1;
            (code, first, length) = (0, 0, 0);
        } else if length + 1 == LENGTHS.len() {
            return None;
        }
    }
    // What is left is padding: the beginning of the longest symbol.
    Some(count)
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ready.is_empty() {
            this.received.reserve(READ);
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut this.inner), context, &mut this.received);
            if ready!(read)? == 0 {
                // The end, maybe within a frame: the other side must see that.
                this.ready = std::mem::take(&mut this.received);
                break;
            }
            this.advance();
        }
        let length = this.ready.len().min(buffer.remaining());
        buffer.put_slice(&this.ready[..length]);
        this.ready.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A HEADERS frame: `:method: POST`, the authority as given, `:path` that is not indexed.
    fn frame(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83];
        block.extend_from_slice(authority);
        block.extend_from_slice(b"\x04\x02/x");
        let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), HEADERS, END_HEADERS, 0, 0, 0, 1];
        frame.extend_from_slice(&block);
        frame
    }

    #[test]
    fn an_authority_is_replaced_by_a_valid_one_of_its_length() {
        assert_eq!(replaced(&frame(b"\x41\x07/a.sock"), END_HEADERS).unwrap(), frame(b"\x41\x07aaaaaaa"));
        // "www.example.com" as the RFC encodes it in appendix C.4.1: 15 symbols in 12 bytes.
        let huffman = b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(replaced(&frame(huffman), END_HEADERS).unwrap(), frame(b"\x41\x0faaaaaaaaaaaaaaa"));
        // From the table: it was replaced when it went in there.
        assert!(replaced(&frame(b"\xbe"), END_HEADERS).is_none());
    }

    #[test]
    fn the_code_has_all_symbols() {
        assert_eq!(LENGTHS.iter().sum::<u32>(), 257);
        // A complete code: its symbols fill all there is to code.
        let filled: u64 = LENGTHS.iter().enumerate().map(|(length, count)| u64::from(*count) << (30 - length)).sum();
        assert_eq!(filled, 1 << 30);
    }

    #[tokio::test]
    async fn everything_else_goes_through_in_whatever_pieces_it_comes() {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut expected = sent.clone();
        let data = [&[0, 0, 3, 0, 0, 0, 0, 0, 1][..], b"\x01\x41\x01"].concat();
        for _ in 0..3 {
            sent.extend(frame(b"\x41\x05/sock").iter().chain(&data));
            expected.extend(frame(b"\x41\x05aaaaa").iter().chain(&data));
        }
        sent.extend_from_slice(b"\0\0\x09\x01");
        expected.extend_from_slice(b"\0\0\x09\x01");
        for piece in [1, 7, 1000] {
            let (mut client, server) = tokio::io::duplex(piece);
            let sent = sent.clone();
            let sending = tokio::spawn(async move { client.write_all(&sent).await.unwrap() });
            let mut received = Vec::new();
            Tolerant::new(server).read_to_end(&mut received).await.unwrap();
            sending.await.unwrap();
            assert_eq!(received, expected, "in pieces of {piece}");
        }
    }
}
