//! What is beside gRPC: CRI's streams at a port of the loopback address, and [`LOCAL_SOCKET`].

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k3s_cri::LOCAL_SOCKET;
use k3s_streaming::{Body, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::streams::Streams;
use super::{archives, unix};
use crate::Runtime;

/// The server.
pub(super) struct Server {
    runtime: Arc<Runtime>,
    pub streams: Arc<Streams>,
    loopback: TcpListener,
    socket: UnixListener,
}

/// By which way somebody came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Any process of the machine: only what a token admits.
    Loopback,
    /// The owner of the socket.
    Socket,
}

impl Server {
    /// Begins to listen: on any free port, and beside CRI's socket.
    ///
    /// # Errors
    /// When either can't be had.
    pub async fn listen(runtime: Arc<Runtime>, cri_socket: &Path) -> io::Result<Self> {
        let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let socket = unix::listen(&cri_socket.with_file_name(LOCAL_SOCKET))?;
        let base = format!("http://{}", loopback.local_addr()?);
        let streams = Arc::new(Streams::new(runtime.clone(), base));
        Ok(Self { runtime, streams, loopback, socket })
    }

    /// Serves until dropped.
    pub async fn serve(&self) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted: io::Result<(Box<dyn Connection>, Way)> = tokio::select! {
                accepted = self.loopback.accept() => accepted.map(|(stream, _)| (Box::new(stream) as _, Way::Loopback)),
                accepted = self.socket.accept() => accepted.map(|(stream, _)| (Box::new(stream) as _, Way::Socket)),
                Some(_) = tasks.join_next() => continue,
            };
            match accepted {
                Ok((connection, way)) => {
                    tasks.spawn(answer(self.runtime.clone(), self.streams.clone(), connection, way));
                }
                Err(error) => {
                    // Out of descriptors, most likely: waiting helps, spinning does not.
                    tracing::warn!(%error, "cannot accept connection for streams");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn answer(runtime: Arc<Runtime>, streams: Arc<Streams>, connection: Box<dyn Connection>, way: Way) {
    let service = service_fn(move |request| {
        let (runtime, streams) = (runtime.clone(), streams.clone());
        async move {
            let answered = dispatch(&runtime, &streams, request, way).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(Response::from))
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(connection), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection for streams ended");
    }
}

async fn dispatch(
    runtime: &Arc<Runtime>,
    streams: &Streams,
    request: Request<Incoming>,
    way: Way,
) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["images", ..] if way == Way::Socket => archives::answer(runtime, request).await,
        [what, token] => streams.connect(what, token, request),
        _ => Err(Refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned())),
    }
}

/// A connection of either kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
