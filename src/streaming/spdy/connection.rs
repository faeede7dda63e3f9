//! A connection and the streams that the client opens on it.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Decoder, Encoder, Frame};
use super::headers::Headers;

/// How many pieces of data wait for a slow reader before the whole connection waits for it.
pub(super) const QUEUE: usize = 64;
/// Clients send data in pieces of at most this length, and so do we.
const PIECE: usize = 32 * 1024;

/// A stream, of the client or of the server.
pub(crate) struct Stream {
    pub(super) headers: Headers,
    /// Data of the other side; its end is the stream's.
    pub data: mpsc::Receiver<Bytes>,
    pub writer: Writer,
}

impl Stream {
    /// A header, by its name without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Our side of a stream.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(super) id: u32,
    pub(super) frames: mpsc::Sender<Frame>,
}

impl Writer {
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends data; false when the connection is gone.
    pub async fn write(&self, data: Bytes) -> bool {
        let mut data = data;
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            if self.frames.send(Frame::Data { id: self.id, fin: false, data: piece }).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more comes.
    pub async fn close(&self) {
        // The connection may be gone; then there is nobody to tell.
        let _ = self.frames.send(Frame::Data { id: self.id, fin: true, data: Bytes::new() }).await;
    }
}

/// Serves a connection: hands each stream the client opens to `streams`, until the client goes. What is still to be
/// sent when the last stream and `streams`' receiver are gone is sent.
pub(crate) async fn serve<S>(connection: S, streams: mpsc::Sender<Stream>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from, mut to) = tokio::io::split(connection);
    let (frames, mut queue) = mpsc::channel::<Frame>(QUEUE);
    let mut decoder = Decoder::new()?;
    let mut encoder = Encoder::new();
    let read = async {
        let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
        loop {
            let frame = tokio::select! {
                frame = decoder.read(&mut from) => frame?,
                () = streams.closed() => {
                    // Reading was interrupted, perhaps in the middle of a frame: nothing more is read. Writing ends by
                    // itself when nobody can send any more.
                    drop(frames);
                    return std::future::pending().await;
                }
            };
            match frame {
                None | Some(Frame::GoAway) => return Ok(()),
                Some(frame) => dispatch(frame, &mut open, &frames, &streams).await,
            }
        }
    };
    let write = async {
        while let Some(frame) = queue.recv().await {
            let bytes = encoder.encode(&frame)?;
            to.write_all(&bytes).await?;
            to.flush().await?;
        }
        to.shutdown().await
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

async fn dispatch(
    frame: Frame,
    open: &mut HashMap<u32, mpsc::Sender<Bytes>>,
    frames: &mpsc::Sender<Frame>,
    streams: &mpsc::Sender<Stream>,
) {
    match frame {
        Frame::SynStream { id, fin, headers } => {
            let (sender, data) = mpsc::channel(QUEUE);
            if !fin {
                open.insert(id, sender);
            }
            let writer = Writer { id, frames: frames.clone() };
            // Each of these fails only when the connection is ending.
            let _ = frames.send(Frame::SynReply { id, headers: Headers::new() }).await;
            if streams.send(Stream { headers, data, writer }).await.is_err() {
                let _ = frames.send(Frame::Reset { id }).await;
            }
        }
        Frame::Data { id, fin, data } => {
            // A stream that nobody reads any more loses what still comes.
            if let Some(stream) = open.get(&id).filter(|_| !data.is_empty())
                && stream.send(data).await.is_err()
            {
                open.remove(&id);
            }
            if fin {
                open.remove(&id);
            }
        }
        Frame::Reset { id } => {
            open.remove(&id);
        }
        Frame::Ping { id } => {
            // Odd ids are the client's own; others would be answers to pings, of which none are sent.
            if id % 2 == 1 {
                let _ = frames.send(Frame::Ping { id }).await;
            }
        }
        Frame::SynReply { .. } | Frame::GoAway | Frame::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_data_both_ways() {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (sender, mut streams) = mpsc::channel(4);
        let serving = tokio::spawn(serve(server, sender));
        let (mut from, mut to) = tokio::io::split(client);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new().unwrap());

        let headers = vec![("StreamType".to_owned(), "stdin".to_owned())];
        for frame in [
            Frame::SynStream { id: 1, fin: false, headers },
            Frame::Data { id: 1, fin: false, data: Bytes::from_static(b"to the server") },
            Frame::Ping { id: 1 },
            Frame::Data { id: 1, fin: true, data: Bytes::new() },
        ] {
            to.write_all(&encoder.encode(&frame).unwrap()).await.unwrap();
        }
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(stream.header("streamtype"), Some("stdin"));
        assert_eq!(stream.data.recv().await.unwrap(), "to the server");
        assert_eq!(stream.data.recv().await, None);
        assert_eq!(decoder.read(&mut from).await.unwrap(), Some(Frame::SynReply { id: 1, headers: vec![] }));
        assert_eq!(decoder.read(&mut from).await.unwrap(), Some(Frame::Ping { id: 1 }));

        assert!(stream.writer.write(Bytes::from_static(b"to the client")).await);
        stream.writer.close().await;
        drop((stream, streams));
        let data = Bytes::from_static(b"to the client");
        assert_eq!(decoder.read(&mut from).await.unwrap(), Some(Frame::Data { id: 1, fin: false, data }));
        let end = Frame::Data { id: 1, fin: true, data: Bytes::new() };
        assert_eq!(decoder.read(&mut from).await.unwrap(), Some(end));
        assert_eq!(decoder.read(&mut from).await.unwrap(), None, "all is sent before the connection closes");
        serving.await.unwrap().unwrap();
    }
}
