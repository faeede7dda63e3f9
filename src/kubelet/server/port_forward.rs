//! `/portForward`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, Response, StatusCode};
use k3s_cri::Duplex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::containers;
use super::query::Query;
use super::request::{Body, Refusal};
use super::spdy::{self, Stream, Writer};
use super::upgrade::{Upgrade, upgrade};
use super::websocket::{self, Forwarded};
use crate::Kubelet;
use crate::context::Context;

const SPDY: &str = "portforward.k8s.io";
/// The same in a WebSocket, as kubectl does it since 1.31.
const TUNNELED: &str = "SPDY/3.1+portforward.k8s.io";

/// Where ports are forwarded to.
#[derive(Clone)]
struct Sandbox {
    ctx: Arc<Context>,
    id: String,
    /// For messages.
    uid: String,
}

impl Sandbox {
    async fn connect(self, port: u16) -> Result<Box<dyn Duplex>, String> {
        self.ctx
            .runtime
            .port_forward(&self.id, port)
            .await
            .map_err(|error| format!("error forwarding port {port} to pod {}, uid : {error}", self.uid))
    }
}

pub(super) async fn port_forward<B>(
    kubelet: &Arc<Kubelet>,
    request: Request<B>,
    namespace: &str,
    pod: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let mut ports: Vec<u16> = Vec::new();
    for text in ["port", "ports"].iter().flat_map(|name| query.all(name)).flat_map(|list| list.split(',')) {
        let port = text.parse().ok().filter(|port| *port != 0);
        ports.push(port.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, format!("invalid port {text:?}")))?);
    }
    let object = containers::pod(&kubelet.ctx, namespace, pod)?;
    let observed = containers::observed(&kubelet.ctx, &object).await?;
    let Some(sandbox) = observed.sandbox() else {
        let message = format!("unable to do port forwarding: pod \"{pod}\" is not running");
        return Err(Refusal(StatusCode::BAD_REQUEST, message));
    };
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let sandbox = Sandbox { ctx: kubelet.ctx.clone(), id: sandbox.id.clone(), uid };
    let websocket: &[&'static str] = if ports.is_empty() { &[TUNNELED] } else { &[TUNNELED, websocket::V4] };
    upgrade(kubelet, request, websocket, &[SPDY], move |upgraded| async move {
        match upgraded {
            Upgrade::Spdy(connection) => over_spdy(connection, &sandbox).await,
            Upgrade::WebSocket(socket, TUNNELED) => {
                let (connection, carry) = websocket::tunnel(*socket);
                tokio::join!(carry, over_spdy(connection, &sandbox));
            }
            Upgrade::WebSocket(socket, _) => {
                let ports = ports.into_iter().map(|port| Forwarded { port, connect: sandbox.clone().connect(port) });
                websocket::ports(*socket, ports.collect()).await;
            }
        }
    })
}

/// Each connection to a port is a pair of streams, one for errors and one for data, with the same `requestID`.
async fn over_spdy<S>(connection: S, sandbox: &Sandbox)
where
    S: AsyncRead + AsyncWrite + Unpin,
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
                    Some("error") => forwards.push(forward(sandbox, other, stream)),
                    _ => forwards.push(forward(sandbox, stream, other)),
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

async fn forward(sandbox: &Sandbox, errors: Stream, data: Stream) {
    let failed = match data.header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0) {
        None => Some("invalid port in stream headers".to_owned()),
        Some(port) => match sandbox.clone().connect(port).await {
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
