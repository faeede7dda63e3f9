//! Netlink attributes: written in order into one buffer, and read out of one.

/// The attribute's value is attributes.
const NLA_F_NESTED: u16 = 1 << 15;
/// Both flags that may stand in an attribute's type.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Attributes being written.
#[derive(Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.header(kind, value.len());
        self.0.extend_from_slice(value);
        self.pad()
    }

    /// Attributes as they were read elsewhere.
    pub(crate) fn raw(&mut self, attributes: &[u8]) {
        self.0.extend_from_slice(attributes);
        self.pad();
    }

    /// nfnetlink's numbers are big-endian.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with the zero byte the kernel wants at its end.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        self.header(kind, value.len() + 1);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.pad()
    }

    /// Attributes in an attribute. What `write` adds must stay below 64 KiB: the length has 16 bits.
    pub(crate) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.header(kind | NLA_F_NESTED, 0);
        write(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn header(&mut self, kind: u16, length: usize) {
        self.0.extend_from_slice(&((length + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Reads attributes: types without flags, and values. Ends at what is no whole attribute.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_lengths_are_not() {
        let mut written = Attributes::default();
        written.string(1, "k3s").u32(2, 7).nested(3, |inner| {
            inner.bytes(4, &[1]);
        });
        let expected: &[&[u8]] =
            &[&[8, 0, 1, 0, b'k', b'3', b's', 0], &[8, 0, 2, 0, 0, 0, 0, 7], &[12, 0, 3, 0x80, 5, 0, 4, 0, 1, 0, 0, 0]];
        if cfg!(target_endian = "little") {
            assert_eq!(written.as_slice(), expected.concat());
        }
        let read: Vec<_> = attributes(written.as_slice()).collect();
        assert_eq!(read[0], (1, &b"k3s\0"[..]));
        assert_eq!(read[1], (2, &[0, 0, 0, 7][..]));
        assert_eq!(attributes(read[2].1).collect::<Vec<_>>(), [(4, &[1][..])]);
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        assert_eq!(attributes(&[8, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0);
    }
}
