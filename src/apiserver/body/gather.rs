//! Bytes that are sent one after the other: short ones are put together, long ones are sent as they are.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// What is longer is not copied. Below that a part of its own costs more than the copy.
const LONG: usize = 8 << 10;

/// Parts of a body in the making. However many clients are sent a long object at a time, its bytes are there once.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    parts: VecDeque<Bytes>,
    /// What the next part begins with.
    open: BytesMut,
    len: usize,
}

impl Gather {
    /// With room for so many bytes of short pieces.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { open: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Bytes altogether.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a copy.
    pub fn put_slice(&mut self, slice: &[u8]) {
        self.open.put_slice(slice);
        self.len += slice.len();
    }

    /// Adds `bytes` from the byte at `from` on.
    pub fn put(&mut self, bytes: &Bytes, from: usize) {
        let rest = bytes.len().saturating_sub(from);
        if rest < LONG {
            return self.put_slice(&bytes[bytes.len() - rest..]);
        }
        self.close();
        self.parts.push_back(bytes.slice(from..));
        self.len += rest;
    }

    /// The parts, in order; none of them is empty.
    pub fn finish(mut self) -> VecDeque<Bytes> {
        self.close();
        self.parts
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.parts.push_back(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_are_one_part_and_long_ones_are_the_same_bytes() {
        let long = Bytes::from(vec![b'x'; LONG + 2]);
        let mut gather = Gather::default();
        gather.put_slice(b"[");
        gather.put(&Bytes::from_static(b"..short"), 2);
        gather.put_slice(b",");
        gather.put(&long, 2);
        gather.put_slice(b"]");
        assert_eq!(gather.len(), LONG + 8);
        let parts = gather.finish();
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [7, LONG, 1]);
        assert_eq!(&parts[0][..], b"[short,");
        assert_eq!(parts[1].as_ptr(), long[2..].as_ptr());
    }

    #[test]
    fn nothing_is_no_part() {
        let mut gather = Gather::with_capacity(10);
        gather.put_slice(b"");
        assert!(gather.is_empty() && gather.finish().is_empty());
    }
}
