//! Bounds on what an archive can make its reader hold in memory.
//!
//! Long names and extended headers are entries of their own, with a size of their own, and the reader takes them in
//! whole: a few megabytes of compressed archive could ask for many gigabytes. This looks at the headers as they pass and
//! ends the archive at one that is too large. It follows the structure as the reader does: sizes in octal or binary, and
//! out of extended headers; sparse files' extra header blocks.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Most that a long name or an extended header may take; Linux's longest path has 4096 bytes, and extended attributes
/// of a file rarely more than some kilobytes.
const MOST: u64 = 1 << 20;

/// What comes next.
enum Next {
    Header,
    /// Further headers of a sparse file, and then so many bytes of its content.
    SparseHeader(u64),
    /// So many bytes of content.
    Content(u64),
    /// So many bytes of an extended header that is kept, and then so many of padding.
    Extended(usize, u64),
    /// The archive has ended; what is behind it is nothing.
    End,
}

/// Passes an archive through.
pub(super) struct Guard<R> {
    inner: R,
    next: Next,
    /// A block, or an extended header, that has not come whole yet.
    kept: Vec<u8>,
    /// The next entry's size, as an extended header gives it.
    size: Option<u64>,
}

impl<R> Guard<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, next: Next::Header, kept: Vec::new(), size: None }
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Looks at bytes that pass.
    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.next {
                Next::End => return Ok(()),
                Next::Content(left) => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = &bytes[taken as usize..];
                    self.next = if left == taken { Next::Header } else { Next::Content(left - taken) };
                }
                Next::Header | Next::SparseHeader(_) => {
                    bytes = self.keep(bytes, BLOCK);
                    if self.kept.len() == BLOCK {
                        let block = std::mem::take(&mut self.kept);
                        self.next = self.after(&block)?;
                    }
                }
                Next::Extended(length, padding) => {
                    bytes = self.keep(bytes, length);
                    if self.kept.len() == length {
                        self.size = extended_size(&std::mem::take(&mut self.kept)).or(self.size);
                        self.next = content(padding);
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps bytes until there are `length`, and returns the others.
    fn keep<'a>(&mut self, bytes: &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(length - self.kept.len()));
        self.kept.extend_from_slice(taken);
        rest
    }

    /// What comes after a block of headers.
    fn after(&mut self, block: &[u8]) -> io::Result<Next> {
        if let Next::SparseHeader(size) = self.next {
            return Ok(if block[504] == 0 { content(size) } else { Next::SparseHeader(size) });
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Next::End);
        }
        let kind = block[156];
        let size = number(&block[124..136]);
        if matches!(kind, b'L' | b'K' | b'x' | b'g' | b'X') {
            if size > MOST {
                let message = format!("a long name or extended header of {size} bytes; at most {MOST} are taken");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            let length = size as usize;
            if kind == b'x' && length > 0 {
                return Ok(Next::Extended(length, padded(size) - size));
            }
            return Ok(content(padded(size)));
        }
        let size = padded(self.size.take().unwrap_or(size));
        Ok(if kind == b'S' && block[482] != 0 { Next::SparseHeader(size) } else { content(size) })
    }
}

fn content(size: u64) -> Next {
    if size == 0 { Next::Header } else { Next::Content(size) }
}

/// A size with what fills its last block.
fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK as u64).unwrap_or(u64::MAX)
}

/// A header's number: octal digits, or binary where the first bit is set.
fn number(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u64, |number, digit| number.saturating_mul(8).saturating_add(u64::from(digit - b'0')))
}

/// The record `size` of an extended header: `<length> size=<number>\n`.
fn extended_size(header: &[u8]) -> Option<u64> {
    let mut found = None;
    let mut rest = header;
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length)?;
        if let Some(value) = record.strip_prefix(b"size=") {
            found = std::str::from_utf8(value).ok()?.trim_end().parse().ok();
        }
        rest = &rest[length..];
    }
    found
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.look(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path("name").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header
    }

    #[test]
    fn a_long_name_without_end_is_not_taken_in() {
        let head = header(EntryType::GNULongName, 1 << 40);
        let archive = head.as_bytes().as_slice().chain(io::repeat(b'a'));
        let mut reader = tar::Archive::new(Guard::new(archive));
        let error = reader.entries().unwrap().next().unwrap().err().unwrap();
        assert!(error.to_string().contains("long name"), "{error}");
    }

    #[test]
    fn entries_are_followed_whatever_their_sizes_stand_in() {
        let mut builder = Builder::new(Vec::new());
        let content = vec![7; 3000];
        builder.append_pax_extensions([("size", b"3000".as_slice()), ("comment", b"x y=z")]).unwrap();
        builder.append(&header(EntryType::Regular, 3000), content.as_slice()).unwrap();
        builder.append_data(&mut header(EntryType::Regular, 3), "n".repeat(300), b"abc".as_slice()).unwrap();
        let mut binary = header(EntryType::Regular, 3);
        binary.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        binary.set_cksum();
        builder.append(&binary, b"def".as_slice()).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        let end = bytes.len() - 2 * BLOCK;
        // After all of them there is still a header where one is looked for.
        bytes.splice(end..end, header(EntryType::GNULongLink, 1 << 40).as_bytes().iter().copied());
        let mut seen = Vec::new();
        let error = Guard::new(bytes.as_slice()).read_to_end(&mut seen).unwrap_err();
        assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
    }

    #[test]
    fn what_is_behind_the_end_is_no_header() {
        let mut bytes = Builder::new(Vec::new()).into_inner().unwrap();
        bytes.extend_from_slice(header(EntryType::GNULongName, 1 << 40).as_bytes());
        let mut seen = Vec::new();
        Guard::new(bytes.as_slice()).read_to_end(&mut seen).unwrap();
        assert_eq!(seen, bytes);
    }
}
