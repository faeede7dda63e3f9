//! Forwarded ports, the server's side.

use std::collections::HashMap;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, Response};
use k3s_cri::Duplex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::response::{Body, Refusal};
use crate::spdy::{self, Stream, Writer};
use crate::upgrade::{Connections, Upgrade, upgrade};
use crate::websocket::{self, Forwarded};

const SPDY: &str = "portforward.k8s.io";
/// The same in a WebSocket, as kubectl does it since 1.31.
const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";

/// Carries connections to ports of a pod.
///
/// `connect` makes a connection to a port or says why it can't; it is called once for each of `ports` where the client
/// speaks WebSocket channels, which name their ports in the request, and else for each port that the client asks for.
///
/// # Errors
/// What to answer to a request that is no upgrade, or one to nothing that is spoken here.
pub fn port_forward<B, C, R>(
    connections: &Connections,
    request: Request<B>,
    ports: Vec<u16>,
    connect: C,
) -> Result<Response<Body>, Refusal>
where
    C: Fn(u16) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Box<dyn Duplex>, String>> + Send,
{
    let websocket: &[&'static str] = if ports.is_empty() { &[TUNNELED] } else { &[TUNNELED, websocket::V4] };
    upgrade(connections, request, websocket, &[SPDY], move |upgraded| async move {
        match upgraded {
            Upgrade::Spdy(connection) => over_spdy(connection, &connect).await,
            Upgrade::WebSocket(socket, TUNNELED) => {
                let (connection, carry) = websocket::tunnel(*socket);
                tokio::join!(carry, over_spdy(connection, &connect));
            }
            Upgrade::WebSocket(socket, _) => {
                let ports = ports.into_iter().map(|port| Forwarded { port, connect: connect(port) });
                websocket::ports(*socket, ports.collect()).await;
            }
        }
    })
}

/// Each connection to a port is a pair of streams, one for errors and one for data, with the same `requestID`.
async fn over_spdy<S, C, R>(connection: S, connect: &C)
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Fn(u16) -> R,
    R: Future<Output = Result<Box<dyn Duplex>, String>>,
{
    let (opened, mut streams) = mpsc::channel::<Stream>(8);
    let work = async move {
        let mut waiting: HashMap<String, Stream> = HashMap::new();
        let mut forwards = FuturesUnordered::new();
        loop {
            let stream = tokio::select! {
                stream = streams.recv() => stream,
                Some(()) = forwards.next(), if !forwards.is_empty() => continue,
            };
            let Some(stream) = stream else { return };
            let request = request_id(&stream);
            match waiting.remove(&request) {
                None => {
                    waiting.insert(request, stream);
                }
                Some(other) => match other.header("streamtype") {
                    Some("error") => forwards.push(forward(connect, other, stream)),
                    _ => forwards.push(forward(connect, stream, other)),
                },
            }
        }
    };
    tokio::select! {
        ended = spdy::serve(connection, opened) => if let Err(error) = ended {
            tracing::debug!(%error, "SPDY connection of a port-forward ended");
        },
        () = work => {}
    }
}

/// Clients older than `requestID` open the error stream first and the data stream right after it.
fn request_id(stream: &Stream) -> String {
    match stream.header("requestid") {
        Some(id) => id.to_owned(),
        None => {
            let id = stream.writer.id();
            format!("stream-{}", if stream.header("streamtype") == Some("data") { id.saturating_sub(2) } else { id })
        }
    }
}

async fn forward<C, R>(connect: &C, errors: Stream, data: Stream)
where
    C: Fn(u16) -> R,
    R: Future<Output = Result<Box<dyn Duplex>, String>>,
{
    let failed = match data.header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0) {
        None => Some("invalid port in stream headers".to_owned()),
        Some(port) => match connect(port).await {
            Ok(connection) => {
                copy(connection, data.data, &data.writer).await;
                None
            }
            Err(error) => Some(error),
        },
    };
    if let Some(error) = failed {
        errors.writer.write(Bytes::from(error)).await;
    }
    data.writer.close().await;
    errors.writer.close().await;
}

async fn copy(connection: Box<dyn Duplex>, mut data: mpsc::Receiver<Bytes>, writer: &Writer) {
    let (mut from, mut to) = tokio::io::split(connection);
    let incoming = async {
        while let Some(piece) = data.recv().await {
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        // The other side may have closed already.
        let _ = to.shutdown().await;
        // What the port still has to say is heard out after the client's last word.
        std::future::pending::<()>().await;
    };
    let outgoing = async {
        let mut piece = Vec::with_capacity(32 * 1024);
        while from.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(32 * 1024));
            if !writer.write(Bytes::from(full)).await {
                return;
            }
        }
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}
