//! Streams in a WebSocket: each binary message begins with the number of its channel.
//!
//! <https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apimachinery/pkg/util/remotecommand/constants.go>

use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::duplex::{Ends, feed, pump, terminal_size};

/// With a message that closes a channel.
pub(crate) const V5: &str = "v5.channel.k8s.io";
pub(crate) const V4: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the number of the channel that ends; since v5.
const CLOSE: u8 = 255;
/// How long the client has to answer that the connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

fn message(channel: u8, data: &[u8]) -> Message {
    let mut framed = Vec::with_capacity(data.len() + 1);
    framed.push(channel);
    framed.extend_from_slice(data);
    Message::Binary(framed.into())
}

/// Closes the connection in good order: client-go takes a close without a code for a failure.
async fn goodbye<S>(sink: &mut SplitSink<WebSocketStream<S>, Message>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The client may be gone already.
    let _ = sink.send(Message::Close(Some(frame))).await;
}

/// Carries the streams of a command. `command` ends with what is to be said on the error channel. Ends with the command
/// or with the client.
pub(crate) async fn remote_command<S>(socket: WebSocketStream<S>, ends: Ends, command: impl Future<Output = Vec<u8>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let (out, mut queue) = mpsc::channel::<Message>(16);
    let Ends { mut stdin, stdout, stderr, resize } = ends;
    let incoming = async {
        while let Some(Ok(received)) = source.next().await {
            let data = match received {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                _ => continue,
            };
            match data.split_first() {
                Some((&STDIN, data)) => feed(&mut stdin, data).await,
                Some((&RESIZE, data)) => {
                    if let (Some(resize), Some(size)) = (&resize, terminal_size(data)) {
                        // A command that has ended does not take it; the loop ends with it.
                        let _ = resize.send(size).await;
                    }
                }
                Some((&CLOSE, [STDIN])) => stdin = None,
                _ => {}
            }
        }
    };
    let outgoing = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        goodbye(&mut sink).await;
    };
    let running = async move {
        let send = |channel| {
            let out = out.clone();
            move |piece: Vec<u8>| {
                let out = out.clone();
                async move { out.send(message(channel, &piece)).await.is_ok() }
            }
        };
        let (status, (), ()) = tokio::join!(command, pump(stdout, send(STDOUT)), pump(stderr, send(STDERR)));
        let _ = out.send(message(ERROR, &status)).await;
    };
    tokio::pin!(incoming);
    tokio::select! {
        ((), ()) = async { tokio::join!(running, outgoing) } => {
            // The client may be about to say that its input has ended: on a closed connection that is an error to it.
            let _ = timeout(FAREWELL, incoming).await;
        }
        () = &mut incoming => {}
    }
}

/// Carries bytes: the messages of the socket are those of the stream that is returned, as long as the future runs.
pub(crate) fn tunnel<S>(socket: WebSocketStream<S>) -> (DuplexStream, impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let carry = async move {
        let (mut sink, mut source) = socket.split();
        let (mut from, mut to) = tokio::io::split(far);
        let incoming = async {
            while let Some(Ok(received)) = source.next().await {
                match received {
                    Message::Binary(data) => to.write_all(&data).await?,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let outgoing = async {
            let mut piece = Vec::with_capacity(32 * 1024);
            while from.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
                let data = std::mem::replace(&mut piece, Vec::with_capacity(32 * 1024));
                if sink.send(Message::Binary(data.into())).await.is_err() {
                    return;
                }
            }
            goodbye(&mut sink).await;
        };
        tokio::select! {
            // An error is that of the near end: it was dropped.
            _ = incoming => {}
            () = outgoing => {}
        }
    };
    (near, carry)
}

/// A forwarded port: its data goes by channel `2 * index`, its error by the next one.
pub(crate) struct Forwarded<F> {
    pub port: u16,
    pub connect: F,
}

/// Carries forwarded ports. Each channel begins with the port's number, little endian.
pub(crate) async fn ports<S, F>(socket: WebSocketStream<S>, ports: Vec<Forwarded<F>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<Box<dyn k3s_cri::Duplex>, String>>,
{
    let (mut sink, mut source) = socket.split();
    let (out, mut queue) = mpsc::channel::<Message>(16);
    let mut inputs: Vec<Option<mpsc::Sender<Bytes>>> = Vec::new();
    let mut work = Vec::new();
    for (index, forwarded) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let (input, data) = mpsc::channel::<Bytes>(16);
        inputs.push(Some(input));
        work.push(port(forwarded, channel, data, out.clone()));
    }
    drop(out);
    let incoming = async {
        while let Some(Ok(received)) = source.next().await {
            match received {
                Message::Binary(mut data) if !data.is_empty() => {
                    let channel = data.split_to(1)[0];
                    let index = usize::from(channel / 2);
                    let input = inputs.get_mut(index).filter(|_| channel % 2 == 0);
                    if let Some(slot) = input
                        && let Some(input) = slot
                        && input.send(data).await.is_err()
                    {
                        *slot = None;
                    }
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outgoing = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        goodbye(&mut sink).await;
    };
    tokio::select! {
        (_, ()) = async { tokio::join!(futures::future::join_all(work), outgoing) } => {}
        () = incoming => {}
    }
}

async fn port<F>(forwarded: Forwarded<F>, channel: u8, mut data: mpsc::Receiver<Bytes>, out: mpsc::Sender<Message>)
where
    F: Future<Output = Result<Box<dyn k3s_cri::Duplex>, String>>,
{
    let number = forwarded.port.to_le_bytes();
    for channel in [channel, channel + 1] {
        if out.send(message(channel, &number)).await.is_err() {
            return;
        }
    }
    let connection = match forwarded.connect.await {
        Ok(connection) => connection,
        Err(error) => {
            // Nobody may be listening any more.
            let _ = out.send(message(channel + 1, error.as_bytes())).await;
            return;
        }
    };
    let (mut from, mut to) = tokio::io::split(connection);
    let incoming = async {
        while let Some(piece) = data.recv().await {
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        // The other side may have closed already.
        let _ = to.shutdown().await;
    };
    let outgoing = async {
        let mut piece = Vec::with_capacity(32 * 1024);
        while from.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
            if out.send(message(channel, &piece)).await.is_err() {
                return;
            }
            piece.clear();
        }
    };
    // What the port still has to say is heard out after the client's last word, but not the other way around.
    let incoming = async {
        incoming.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}
