//! The client's side of a connection: it opens the streams.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::connection::{QUEUE, Stream, Writer};
use super::frame::{Decoder, Encoder, Frame};
use super::headers::Headers;

/// Where data of open streams goes.
type Open = Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>;

/// Opens streams.
pub(crate) struct Opener {
    frames: mpsc::Sender<Frame>,
    open: Open,
    /// Clients' streams have odd numbers.
    next: u32,
}

impl Opener {
    /// Opens a stream; on a connection that is gone it ends at once. Names of headers must be in lower case, as the
    /// protocol has them.
    pub async fn open(&mut self, headers: Headers) -> Stream {
        let id = self.next;
        self.next += 2;
        let (sender, data) = mpsc::channel(QUEUE);
        self.open.lock().insert(id, sender);
        if self.frames.send(Frame::SynStream { id, fin: false, headers: headers.clone() }).await.is_err() {
            self.open.lock().remove(&id);
        }
        Stream { headers, data, writer: Writer { id, frames: self.frames.clone() } }
    }
}

/// A connection whose streams the returned value opens. It is the future that carries them: until the server goes, or
/// all streams and the opener are gone and what they wrote is sent.
pub(crate) fn connect<S>(connection: S) -> (Opener, impl Future<Output = io::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (frames, mut queue) = mpsc::channel::<Frame>(QUEUE);
    let open = Open::default();
    let (pings, streams) = (frames.downgrade(), open.clone());
    let carry = async move {
        let (mut from, mut to) = tokio::io::split(connection);
        let (mut decoder, mut encoder) = (Decoder::new()?, Encoder::new());
        let read = async {
            loop {
                match decoder.read(&mut from).await? {
                    None | Some(Frame::GoAway) => return io::Result::Ok(()),
                    // Even numbers are the server's own.
                    Some(Frame::Ping { id }) if id % 2 == 0 => {
                        if let Some(frames) = pings.upgrade() {
                            // Fails only when the connection is ending.
                            let _ = frames.send(Frame::Ping { id }).await;
                        }
                    }
                    Some(frame) => take(frame, &streams).await,
                }
            }
        };
        let write = async {
            while let Some(frame) = queue.recv().await {
                to.write_all(&encoder.encode(&frame)?).await?;
                to.flush().await?;
            }
            to.shutdown().await
        };
        let ended = tokio::select! {
            ended = read => ended,
            ended = write => ended,
        };
        // Nothing more comes for any of them.
        streams.lock().clear();
        ended
    };
    (Opener { frames, open, next: 1 }, carry)
}

async fn take(frame: Frame, open: &Open) {
    let (id, data, last) = match frame {
        Frame::Data { id, fin, data } => (id, data, fin),
        Frame::Reset { id } => (id, Bytes::new(), true),
        Frame::SynReply { .. } | Frame::SynStream { .. } | Frame::Ping { .. } | Frame::GoAway | Frame::Other => return,
    };
    let sender = open.lock().get(&id).cloned();
    let unread = match sender {
        Some(sender) if !data.is_empty() => sender.send(data).await.is_err(),
        _ => false,
    };
    if last || unread {
        open.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_and_a_server_understand_each_other() {
        let (near, far) = tokio::io::duplex(4096);
        let (opened, mut streams) = mpsc::channel(4);
        let server = async move {
            let serving = super::super::serve(far, opened);
            let answering = async move {
                let mut stream = streams.recv().await.unwrap();
                assert_eq!(stream.header("StreamType"), Some("stdin"));
                let mut all = Vec::new();
                while let Some(data) = stream.data.recv().await {
                    all.extend_from_slice(&data);
                }
                assert!(stream.writer.write(all.into()).await);
                stream.writer.close().await;
            };
            tokio::join!(serving, answering).0.unwrap();
        };
        let (mut opener, carry) = connect(near);
        let client = async move {
            let mut stream = opener.open(vec![("streamtype".into(), "stdin".into())]).await;
            let sent = vec![7; 100_000];
            assert!(stream.writer.write(sent.clone().into()).await);
            stream.writer.close().await;
            let mut received = Vec::new();
            while let Some(data) = stream.data.recv().await {
                received.extend_from_slice(&data);
            }
            assert!(received == sent);
        };
        let (ended, (), ()) = tokio::join!(carry, client, server);
        ended.unwrap();
    }
}
