//! Frames.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{self, Headers};

/// A frame, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        headers: Headers,
    },
    Data {
        id: u32,
        fin: bool,
        data: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS, HEADERS, WINDOW_UPDATE: read and passed over.
    Other,
}

const VERSION: u16 = 3;
const CONTROL: u16 = 0x8000;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
const ID_MASK: u32 = 0x7fff_ffff;
/// Status CANCEL of RST_STREAM.
const CANCEL: u32 = 5;
/// Control frames are short; data is taken in pieces of this length.
const LONGEST_CONTROL: usize = 64 * 1024;

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn number(body: &[u8], at: usize) -> io::Result<u32> {
    let bytes = body.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| invalid("frame is cut off"))
}

/// Reads frames.
pub(super) struct Decoder(headers::Reader);

impl Decoder {
    pub fn new() -> io::Result<Self> {
        Ok(Self(headers::Reader::new()?))
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn read<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<Option<Frame>> {
        let mut head = [0; 8];
        match from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let first = u16::from_be_bytes([head[0], head[1]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if first & CONTROL != 0 && length > LONGEST_CONTROL {
            return Err(invalid("control frame is too long"));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        if first & CONTROL == 0 {
            let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) & ID_MASK;
            return Ok(Some(Frame::Data { id, fin: flags & FLAG_FIN != 0, data: body.into() }));
        }
        if first & !CONTROL != VERSION {
            return Err(invalid("frame of another version of SPDY"));
        }
        self.control(u16::from_be_bytes([head[2], head[3]]), flags, &body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<Frame> {
        let block = |from: usize| body.get(from..).ok_or_else(|| invalid("frame is cut off"));
        Ok(match kind {
            SYN_STREAM => Frame::SynStream {
                id: number(body, 0)? & ID_MASK,
                fin: flags & FLAG_FIN != 0,
                // After the associated stream, the priority and the slot.
                headers: self.0.read(block(10)?)?,
            },
            SYN_REPLY => Frame::SynReply { id: number(body, 0)? & ID_MASK, headers: self.0.read(block(4)?)? },
            RST_STREAM => Frame::Reset { id: number(body, 0)? & ID_MASK },
            PING => Frame::Ping { id: number(body, 0)? },
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

/// Writes frames.
pub(super) struct Encoder(headers::Writer);

impl Encoder {
    pub fn new() -> Self {
        Self(headers::Writer::new())
    }

    pub fn encode(&mut self, frame: &Frame) -> io::Result<Vec<u8>> {
        let (kind, flags, body) = match frame {
            Frame::Data { id, fin, data } => {
                let mut bytes = (id & ID_MASK).to_be_bytes().to_vec();
                bytes.extend_from_slice(&head(u8::from(*fin) * FLAG_FIN, data.len())?);
                bytes.extend_from_slice(data);
                return Ok(bytes);
            }
            Frame::SynStream { id, fin, headers } => {
                let mut body = id.to_be_bytes().to_vec();
                body.extend_from_slice(&[0; 6]);
                body.extend(self.0.write(headers)?);
                (SYN_STREAM, u8::from(*fin) * FLAG_FIN, body)
            }
            Frame::SynReply { id, headers } => {
                let mut body = id.to_be_bytes().to_vec();
                body.extend(self.0.write(headers)?);
                (SYN_REPLY, 0, body)
            }
            Frame::Reset { id } => (RST_STREAM, 0, [id.to_be_bytes(), CANCEL.to_be_bytes()].concat()),
            Frame::Ping { id } => (PING, 0, id.to_be_bytes().to_vec()),
            Frame::GoAway => (GOAWAY, 0, vec![0; 8]),
            Frame::Other => return Ok(Vec::new()),
        };
        let mut bytes = (CONTROL | VERSION).to_be_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&head(flags, body.len())?);
        bytes.extend(body);
        Ok(bytes)
    }
}

/// Flags and length.
fn head(flags: u8, length: usize) -> io::Result<[u8; 4]> {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24);
    let [_, a, b, c] = length.ok_or_else(|| invalid("frame is too long"))?.to_be_bytes();
    Ok([flags, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written() {
        let headers = vec![("streamtype".to_owned(), "stdin".to_owned())];
        let frames = [
            Frame::SynStream { id: 1, fin: false, headers: headers.clone() },
            Frame::SynReply { id: 1, headers: Vec::new() },
            Frame::Data { id: 1, fin: false, data: Bytes::from_static(b"hello") },
            Frame::Data { id: 1, fin: true, data: Bytes::new() },
            Frame::Ping { id: 7 },
            Frame::Reset { id: 3 },
            Frame::GoAway,
            Frame::SynStream { id: 3, fin: true, headers },
        ];
        let mut encoder = Encoder::new();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoder.encode(frame).unwrap()).collect();
        let mut decoder = Decoder::new().unwrap();
        let mut from = bytes.as_slice();
        for frame in frames {
            assert_eq!(decoder.read(&mut from).await.unwrap(), Some(frame));
        }
        assert_eq!(decoder.read(&mut from).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_data_frame_has_the_layout_of_the_protocol() {
        let bytes = Encoder::new().encode(&Frame::Data { id: 5, fin: true, data: Bytes::from_static(b"ab") }).unwrap();
        assert_eq!(bytes, [0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b']);
        let ping = Encoder::new().encode(&Frame::Ping { id: 9 }).unwrap();
        assert_eq!(ping, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
    }

    #[tokio::test]
    async fn another_version_and_endless_control_frames_are_refused() {
        let mut decoder = Decoder::new().unwrap();
        assert!(decoder.read(&mut [0x80, 2, 0, 6, 0, 0, 0, 0].as_slice()).await.is_err());
        assert!(decoder.read(&mut [0x80, 3, 0, 1, 0, 255, 255, 255].as_slice()).await.is_err());
        assert!(decoder.read(&mut [0x80, 3, 0, 1, 0, 0, 0, 1, 0].as_slice()).await.is_err());
    }
}
