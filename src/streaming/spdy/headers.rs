//! Header blocks: name and value pairs, compressed with a dictionary that both sides know.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// Names and values.
pub(super) type Headers = Vec<(String, String)>;

/// A block is not longer than this, however well it is compressed.
const LONGEST: usize = 64 * 1024;

/// The dictionary's entries that are preceded by their lengths.
const NAMES: [&str; 63] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
];
const MORE_NAMES: [&str; 2] = ["keep-alive", "origin"];
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
     Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 \
     Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
     Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
     GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
     text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// The dictionary's Adler-32 checksum, by which zlib names it.
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for name in NAMES.iter().chain(&MORE_NAMES) {
        dictionary.extend_from_slice(&(name.len() as u32).to_be_bytes());
        dictionary.extend_from_slice(name.as_bytes());
    }
    dictionary.extend_from_slice(REST.as_bytes());
    dictionary
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads the blocks of a connection, in order.
pub(super) struct Reader {
    inflate: Decompress,
    /// zlib's own header has been read.
    begun: bool,
}

impl Reader {
    pub fn new() -> io::Result<Self> {
        let mut inflate = Decompress::new(false);
        // flate2's Rust backend takes no dictionary. What was once inflated is one, though: the dictionary is given as a
        // block that is stored as it is, and what comes out is thrown away.
        let dictionary = dictionary();
        let length = dictionary.len() as u16;
        let mut block = vec![0];
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&(!length).to_le_bytes());
        block.extend_from_slice(&dictionary);
        let mut thrown_away = Vec::with_capacity(dictionary.len() * 2);
        inflate.decompress_vec(&block, &mut thrown_away, FlushDecompress::Sync).map_err(io::Error::other)?;
        Ok(Self { inflate, begun: false })
    }

    pub fn read(&mut self, mut block: &[u8]) -> io::Result<Headers> {
        if !self.begun {
            let (header, rest) = block.split_at_checked(2).ok_or_else(|| invalid("header block is cut off"))?;
            block = rest;
            let with_dictionary = header[1] & 0x20 != 0;
            if with_dictionary {
                let (id, rest) = block.split_at_checked(4).ok_or_else(|| invalid("header block is cut off"))?;
                if id != DICTIONARY_ID {
                    return Err(invalid("header block has another dictionary"));
                }
                block = rest;
            }
            self.begun = true;
        }
        // Room for the longest block at once: flate2 does not go on where it stopped for want of room alone.
        let mut plain = Vec::with_capacity(LONGEST + 1);
        while !block.is_empty() {
            let before = self.inflate.total_in();
            let inflated = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            inflated.map_err(|_| invalid("header block is damaged"))?;
            if plain.len() > LONGEST {
                return Err(invalid("header block is too long"));
            }
            let read = (self.inflate.total_in() - before) as usize;
            if read == 0 {
                return Err(invalid("header block is damaged"));
            }
            block = &block[read..];
        }
        parse(&plain)
    }
}

fn parse(plain: &[u8]) -> io::Result<Headers> {
    let mut rest = plain;
    let number = |rest: &mut &[u8]| -> io::Result<usize> {
        let (number, tail) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("header block is cut off"))?;
        *rest = tail;
        Ok(u32::from_be_bytes(*number) as usize)
    };
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || -> io::Result<String> {
            let length = number(&mut rest)?;
            let (text, tail) = rest.split_at_checked(length).ok_or_else(|| invalid("header block is cut off"))?;
            rest = tail;
            Ok(String::from_utf8_lossy(text).into_owned())
        };
        let name = text()?;
        headers.push((name, text()?));
    }
    Ok(headers)
}

/// Writes the blocks of a connection, in order. Without the dictionary, which zlib allows.
pub(super) struct Writer(Compress);

impl Writer {
    pub fn new() -> Self {
        Self(Compress::new(Compression::fast(), true))
    }

    pub fn write(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        // Room for what does not compress and for the marks of the flush.
        let mut block = Vec::with_capacity(plain.len() + 64);
        self.0.compress_vec(&plain, &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let (a, b) = dictionary.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!((b << 16 | a).to_be_bytes(), DICTIONARY_ID);
    }

    #[test]
    fn blocks_of_zlib_with_the_dictionary_are_read_in_order() {
        // Made with zlib: compressobj(zdict=...), Z_SYNC_FLUSH after each block.
        let mut reader = Reader::new().unwrap();
        let first = reader.read(&hex("78bbe3c6a7c202e50e703a2b294a4dcc851625aca9a080c6914c01000000ffff")).unwrap();
        assert_eq!(first, [("streamtype".into(), "error".into()), ("version".into(), "HTTP/1.1".into())]);
        let second = hex("0225530c1da0c22711528e1781b38c8581850190e62c82c47b26283f301a00000000ffff");
        let second = reader.read(&second).unwrap();
        let expected = [("streamtype", "data"), ("port", "8080"), ("requestid", "0")];
        assert_eq!(second, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_written_is_read() {
        let (mut writer, mut reader) = (Writer::new(), Reader::new().unwrap());
        for count in 0..20 {
            let headers: Headers = (0..count).map(|n| (format!("name-{n}"), "value".repeat(n * 20))).collect();
            let block = writer.write(&headers).unwrap();
            assert_eq!(reader.read(&block).unwrap(), headers);
        }
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let block = Writer::new().write(&vec![("name".to_owned(), "x".repeat(1 << 20))]).unwrap();
        assert!(block.len() < 16 * 1024);
        assert!(Reader::new().unwrap().read(&block).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        assert!(Reader::new().unwrap().read(&[0x78]).is_err());
        assert!(Reader::new().unwrap().read(&hex("78bb00000000")).is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, 1]).is_err());
        assert!(parse(&[255, 255, 255, 255]).is_err());
    }
}
