//! Sockets that are listened at, with or without TLS.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream, FuturesUnordered},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::{
    Address,
    authority::Tolerant,
    tls::{Tls, TlsError},
};

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a connection could not be taken (too many open files, most likely), the time until the next try.
const RETRY: Duration = Duration::from_millis(100);

/// Why it can't be listened at an address.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen at {address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot listen at {path}: {source}")]
    Unix { path: PathBuf, source: io::Error },
    #[error("cannot listen at {path}: another process does")]
    InUse { path: PathBuf },
    #[error("cannot listen with TLS: {0}")]
    Tls(#[from] TlsError),
}

/// A socket that clients can connect to. A unix socket is for its user alone (mode 0600) and is removed at the end.
pub struct Listener {
    socket: Socket,
    url: String,
}

enum Socket {
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
    Unix(UnixListener, Removed),
}

/// The file of a unix socket, which goes when this does.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove a socket");
            }
            _ => {}
        }
    }
}

impl Listener {
    /// Begins to listen. A socket that a killed process left behind is replaced. TLS is for TCP; on a unix socket it
    /// would protect nothing and is left out.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: &Address, tls: Option<Tls>) -> Result<Self, ListenError> {
        match address {
            Address::Tcp(address) => {
                let failed = |source| ListenError::Tcp { address: *address, source };
                let tls = tls.map(|tls| tls.config()).transpose()?;
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let local = listener.local_addr().map_err(failed)?;
                Ok(match tls {
                    Some(tls) => Self { socket: Socket::Tls(listener, tls.into()), url: format!("https://{local}") },
                    None => Self { socket: Socket::Tcp(listener), url: format!("http://{local}") },
                })
            }
            Address::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(ListenError::InUse { path: path.clone() });
                }
                let listener = private(path).map_err(|source| ListenError::Unix { path: path.clone(), source })?;
                let url = format!("unix://{}", path.display());
                Ok(Self { socket: Socket::Unix(listener, Removed(path.clone())), url })
            }
        }
    }

    /// How a client names it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Connections, as clients make them.
    pub(super) fn incoming(self) -> BoxStream<'static, io::Result<Connection>> {
        match self.socket {
            Socket::Tcp(listener) => stream::unfold(listener, async |listener| {
                let stream = tcp(&listener).await;
                Some((Ok(Connection::new(stream)), listener))
            })
            .boxed(),
            Socket::Tls(listener, acceptor) => stream::unfold(
                (listener, acceptor, FuturesUnordered::new()),
                async |(listener, acceptor, mut shaking)| {
                    loop {
                        tokio::select! {
                            stream = tcp(&listener) => {
                                let handshake = acceptor.accept(stream);
                                shaking.push(async move { timeout(HANDSHAKE, handshake).await });
                            }
                            Some(shaken) = shaking.next() => match shaken {
                                Ok(Ok(stream)) => {
                                    let connection = Ok(Connection::new(stream));
                                    return Some((connection, (listener, acceptor, shaking)));
                                }
                                Ok(Err(error)) => tracing::debug!(%error, "refused a connection"),
                                Err(_) => tracing::debug!("a client did not complete the handshake"),
                            },
                        }
                    }
                },
            )
            .boxed(),
            // The file is moved along, so that it lives as long as the listener.
            Socket::Unix(listener, file) => stream::unfold((listener, file), async |(listener, file)| {
                let stream = loop {
                    match listener.accept().await {
                        Ok((stream, _)) => break stream,
                        Err(error) => pause(&error).await,
                    }
                };
                Some((Ok(Connection::new(stream)), (listener, file)))
            })
            .boxed(),
        }
    }
}

async fn tcp(listener: &TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return stream,
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot take a connection");
    tokio::time::sleep(RETRY).await;
}

/// Binds under another name and renames, so that nobody connects before the mode is right, and what was there is
/// replaced at once.
fn private(path: &Path) -> io::Result<UnixListener> {
    let mut unready = path.as_os_str().to_owned();
    unready.push(".new");
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unready)?;
    std::fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
    std::fs::rename(&unready, path)?;
    Ok(listener)
}

/// What a client's connection is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client's connection.
pub(super) struct Connection(Tolerant<Box<dyn Stream>>);

impl Connection {
    fn new(stream: impl Stream + 'static) -> Self {
        Self(Tolerant::new(Box::new(stream)))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

type Poll<T> = std::task::Poll<io::Result<T>>;
type Context<'a, 'b> = &'a mut std::task::Context<'b>;

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: Context, buffer: &mut ReadBuf<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: Context, bytes: &[u8]) -> Poll<usize> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: Context, bytes: &[io::IoSlice<'_>]) -> Poll<usize> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: Context) -> Poll<()> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: Context) -> Poll<()> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
