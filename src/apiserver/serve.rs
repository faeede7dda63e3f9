//! The network's way in: TLS over listening sockets that are handed in, HTTP/1.1 and HTTP/2 as the client chose by ALPN,
//! upgrades (WebSocket, SPDY) enabled.
//!
//! What answers is any [`tower::Service`]. Each request carries its [`Peer`] as an extension: the address and the
//! certificates the client proved to hold, which nobody has judged yet; see [`crate::authentication`]. As in Kubernetes,
//! a certificate that no CA here has signed does not fail the handshake; the request is answered with 401.
//!
//! A peer that hangs costs a place among [`Limits::connections`] for as long as the limits allow, and nothing after.

mod stalled;
mod unread;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::DistinguishedName;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use crate::authentication::Certified;
use stalled::Stalled;
use unread::{Answer, Unread};

/// What is put together for one HTTP/2 stream before its client takes it.
const SEND_BUFFER: usize = 64 << 10;

/// Why the server could not start to serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket that was handed in cannot be used.
    #[error("cannot take over the listening socket at {address}: {source}")]
    Listener { address: String, source: io::Error },
    /// There is nothing to listen on.
    #[error("no listening socket was handed to the API server")]
    NoListener,
    /// The TLS library refuses its settings.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// How long and how often a peer may keep the server waiting.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the end of the handshake to the first complete request head.
    pub header_read: Duration,
    /// Between requests on an HTTP/1.1 connection, and for an HTTP/2 peer to answer a ping.
    pub idle: Duration,
    /// For a peer to take some of what is sent to it, unless it reads a stream such as a log at its own pace. Over HTTP/2
    /// this holds for each stream; a stream that is not read ends its connection, as nothing less frees what it holds.
    pub stalled: Duration,
    /// For requests in progress when the server stops; then they are cut off.
    pub shutdown: Duration,
    /// Connections at a time over all listeners; more wait in the kernel's backlog.
    pub connections: usize,
    /// Streams at a time in one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    /// kube-apiserver's: 10 s for a handshake, 32 s for a head, 90 s idle, 60 s for an answer to be taken, 250 streams.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            stalled: Duration::from_secs(60),
            shutdown: Duration::from_secs(10),
            connections: 20_000,
            streams: 250,
        }
    }
}

/// Where a request came from. An extension of every request from the network; requests within the process have none.
#[derive(Debug, Clone)]
pub struct Peer {
    connection: Arc<Connection>,
    /// Of the connection's one request, or, over HTTP/2, of each.
    patient: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    local: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    certified: OnceLock<Certified>,
}

impl Peer {
    /// A peer at `remote` that connected to `local` and showed `certificates`, its own first.
    pub fn new(remote: SocketAddr, local: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Self {
        let connection = Arc::new(Connection { remote, local, certificates, certified: OnceLock::new() });
        Self { connection, patient: Arc::default() }
    }

    /// The same peer in one of several requests at a time.
    fn in_stream(&self) -> Self {
        Self { connection: Arc::clone(&self.connection), patient: Arc::default() }
    }

    /// The client's address.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote
    }

    /// The server's address that the client connected to.
    pub fn local(&self) -> SocketAddr {
        self.connection.local
    }

    /// Says whether the client may stop to read for as long as it wants: a log that somebody pages through.
    pub(crate) fn set_patient(&self, patient: bool) {
        self.patient.store(patient, Ordering::Relaxed);
    }

    fn is_patient(&self) -> bool {
        self.patient.load(Ordering::Relaxed)
    }

    /// What authentication has found out about the certificates, kept for the connection's next requests.
    pub(crate) fn certified(&self) -> &OnceLock<Certified> {
        &self.connection.certified
    }

    /// What the client showed, its own certificate first. It holds the key; whether anybody trusted signed it has not
    /// been checked.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.connection.certificates
    }
}

/// TLS settings for [`serve`]: `certificate` says what to show for which name, `client_ca_names` are the subjects of the
/// CAs whose client certificates are asked for.
///
/// # Errors
/// If the TLS library refuses the settings.
pub fn tls(
    certificate: Arc<dyn ResolvesServerCert>,
    client_ca_names: Vec<DistinguishedName>,
) -> Result<Arc<rustls::ServerConfig>, Error> {
    // Who signed a client's certificate is asked per request: a bad answer is a 401 and not a broken handshake.
    let mut config = rustls::ServerConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(k3s_tls::AnyClient::hinting(client_ca_names))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves `service` on `listeners` until `cancel`; returns when the last connection has ended or
/// [`Limits::shutdown`] has passed. A service whose future fails closes that connection.
///
/// # Errors
/// If a listener cannot be used. Whatever single peers do wrong is logged at debug level and is no error.
pub async fn serve<S, B>(
    listeners: Vec<TcpListener>,
    tls: Arc<rustls::ServerConfig>,
    service: S,
    limits: Limits,
    cancel: CancellationToken,
) -> Result<(), Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    if listeners.is_empty() {
        return Err(Error::NoListener);
    }
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    // Ends what is still open when the time to shut down is over; dropped with this future.
    let cut_off = CancellationToken::new();
    let _guard = cut_off.clone().drop_guard();
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let address = listener.local_addr().map_or_else(|_| "unknown".to_owned(), |address| address.to_string());
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpListener::from_std(listener))
            .map_err(|source| Error::Listener { address, source })?;
        let server = Server {
            acceptor: TlsAcceptor::from(tls.clone()),
            service: service.clone(),
            limits: limits.clone(),
            cancel: cancel.clone(),
            cut_off: cut_off.clone(),
        };
        accepting.spawn(accept(listener, places.clone(), server, connections.clone()));
    }
    while accepting.join_next().await.is_some() {}
    connections.close();
    if timeout(limits.shutdown, connections.wait()).await.is_err() {
        tracing::debug!(open = connections.len(), "connections cut off at shutdown");
        cut_off.cancel();
        connections.wait().await;
    }
    Ok(())
}

async fn accept<S, B>(
    listener: tokio::net::TcpListener,
    places: Arc<Semaphore>,
    server: Server<S>,
    connections: TaskTracker,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let (place, accepted) = tokio::select! {
            () = server.cancel.cancelled() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        match accepted {
            Ok((stream, remote)) => {
                connections.spawn(server.clone().connection(stream, remote, place));
            }
            // A connection that was reset before it was accepted, or no descriptors left; both pass.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[derive(Clone)]
struct Server<S> {
    acceptor: TlsAcceptor,
    service: S,
    limits: Limits,
    cancel: CancellationToken,
    cut_off: CancellationToken,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    async fn connection(self, stream: TcpStream, remote: SocketAddr, _place: OwnedSemaphorePermit) {
        if let Err(error) = keep_alive(&stream) {
            tracing::debug!(%remote, %error, "cannot set keep-alive");
        }
        let Ok(local) = stream.local_addr() else { return };
        let handshake = timeout(self.limits.handshake, self.acceptor.accept(stream));
        let stream = tokio::select! {
            () = self.cancel.cancelled() => return,
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%remote, "TLS handshake took too long"),
            },
        };
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let http2 = session.alpn_protocol() == Some(b"h2");
        let peer = Peer::new(remote, local, certificates);
        let stream = Stalled::new(stream, peer.clone(), self.limits.stalled);
        let (seen, unread) = (Arc::new(AtomicBool::new(false)), Arc::new(Unread::default()));
        let service = {
            let (service, seen, unread) = (self.service.clone(), seen.clone(), unread.clone());
            hyper::service::service_fn(move |mut request: Request<Incoming>| {
                seen.store(true, Ordering::Relaxed);
                let peer = if http2 { peer.in_stream() } else { peer.clone() };
                request.extensions_mut().insert(peer.clone());
                let answered = service.clone().oneshot(request);
                let unread = http2.then(|| unread.clone());
                async move {
                    let answer = answered.await?;
                    Ok::<_, S::Error>(answer.map(|body| match unread {
                        Some(unread) => Answer::in_stream(body, unread, peer),
                        None => Answer::plain(body),
                    }))
                }
            })
        };
        let every = (self.limits.stalled / 4).max(Duration::from_millis(1));
        let mut unread_check = http2.then(|| tokio::time::interval(every));
        let builder = self.http(http2);
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut first_request = std::pin::pin!(tokio::time::sleep(self.limits.header_read));
        let mut waiting = true;
        let mut stopping = false;
        loop {
            tokio::select! {
                done = connection.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%remote, %error, "connection ended");
                    }
                    return;
                }
                () = &mut first_request, if waiting => {
                    if !seen.load(Ordering::Relaxed) {
                        return tracing::debug!(%remote, "no request came in time");
                    }
                    waiting = false;
                }
                () = async { if let Some(check) = &mut unread_check { check.tick().await; } }, if http2 => {
                    if unread.longer_than(self.limits.stalled) {
                        return tracing::debug!(%remote, "the client does not read an answer");
                    }
                }
                () = self.cancel.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.cut_off.cancelled() => return,
            }
        }
    }

    fn http(&self, http2: bool) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        if http2 {
            builder = builder.http2_only();
        } else {
            builder = builder.http1_only();
        }
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.idle);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(self.limits.idle / 3)
            .keep_alive_timeout(self.limits.idle / 3)
            .max_header_list_size(64 * 1024);
        builder
    }
}

/// Notices peers that vanished without a word, and sends small answers at once.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    Ok(())
}
