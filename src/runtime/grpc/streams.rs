//! CRI's streaming server: where `Exec`, `Attach` and `PortForward` send their callers.
//!
//! Those calls only note what is wished for and return a URL with a token that nobody can guess, good for one connection
//! within a minute. The server listens on the loopback address, and on a socket beside that of CRI: a client outside
//! the launcher's network namespace can't reach the former.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k3s_cri::{ContainerState, Error, ExecRequest, RuntimeService as _, SandboxState};
use k3s_streaming::{Body, Connections, Refusal, Wanted, port_forward, remote_command};
use k8s_cri::v1;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::unix;
use crate::Runtime;

/// How long a URL is good for, as with other runtimes.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How many URLs may wait for their connections.
const MOST: usize = 1000;
/// The file name of the server's socket, beside that of CRI.
pub const SOCKET: &str = "streaming.sock";

/// What a URL stands for.
enum Wish {
    Exec(ExecRequest, Wanted),
    Attach(String, Wanted),
    PortForward(String, Vec<u16>),
}

impl Wish {
    fn name(&self) -> &'static str {
        match self {
            Self::Exec(..) => "exec",
            Self::Attach(..) => "attach",
            Self::PortForward(..) => "portforward",
        }
    }
}

/// The server's state.
pub(super) struct Streams {
    runtime: Arc<Runtime>,
    /// `http://127.0.0.1:PORT`.
    base: String,
    wishes: Mutex<HashMap<String, (Instant, Wish)>>,
    connections: Connections,
}

/// Where it listens.
pub(super) struct Listeners {
    loopback: TcpListener,
    socket: UnixListener,
}

impl Streams {
    /// Begins to listen: on any free port, and beside CRI's socket.
    ///
    /// # Errors
    /// When either can't be had.
    pub async fn listen(runtime: Arc<Runtime>, cri_socket: &Path) -> io::Result<(Arc<Self>, Listeners)> {
        let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let socket = unix::listen(&cri_socket.with_file_name(SOCKET))?;
        let base = format!("http://{}", loopback.local_addr()?);
        let streams = Self { runtime, base, wishes: Mutex::default(), connections: Connections::default() };
        Ok((Arc::new(streams), Listeners { loopback, socket }))
    }

    /// Serves until dropped.
    pub async fn serve(self: &Arc<Self>, listeners: Listeners) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted: io::Result<Box<dyn Connection>> = tokio::select! {
                accepted = listeners.loopback.accept() => accepted.map(|(stream, _)| Box::new(stream) as _),
                accepted = listeners.socket.accept() => accepted.map(|(stream, _)| Box::new(stream) as _),
                Some(_) = tasks.join_next() => continue,
            };
            match accepted {
                Ok(connection) => {
                    tasks.spawn(self.clone().answer(connection));
                }
                Err(error) => {
                    // Out of descriptors, most likely: waiting helps, spinning does not.
                    tracing::warn!(%error, "cannot accept connection for streams");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Ends all streams.
    pub async fn close(&self) {
        self.connections.close().await;
    }

    async fn answer(self: Arc<Self>, connection: Box<dyn Connection>) {
        let service = service_fn(move |request| {
            let answer = self.dispatch(request).unwrap_or_else(Response::from);
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(connection), service).with_upgrades().await;
        if let Err(error) = served {
            tracing::debug!(%error, "connection for streams ended");
        }
    }

    fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let unknown = || Refusal(StatusCode::NOT_FOUND, "404 page not found: ask for a new URL".to_owned());
        let mut path = request.uri().path().trim_matches('/').split('/');
        let (Some(what), Some(token), None) = (path.next(), path.next(), path.next()) else { return Err(unknown()) };
        let (wished, wish) = self.wishes.lock().remove(token).ok_or_else(unknown)?;
        if wish.name() != what || wished.elapsed() > GOOD_FOR {
            return Err(unknown());
        }
        let runtime = self.runtime.clone();
        match wish {
            Wish::Exec(exec, wanted) => remote_command(&self.connections, request, wanted, move |streams| async move {
                runtime.exec(exec, streams).await
            }),
            Wish::Attach(container, wanted) => {
                remote_command(&self.connections, request, wanted, move |streams| async move {
                    runtime.attach(&container, streams).await.map(|()| 0)
                })
            }
            Wish::PortForward(sandbox, ports) => port_forward(&self.connections, request, ports, move |port| {
                let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
                async move { runtime.port_forward(&sandbox, port).await.map_err(|error| error.to_string()) }
            }),
        }
    }

    /// Notes a wish and returns its URL.
    fn wish(&self, wish: Wish) -> Result<String, Error> {
        let mut wishes = self.wishes.lock();
        wishes.retain(|_, (wished, _)| wished.elapsed() <= GOOD_FOR);
        if wishes.len() >= MOST {
            let detail = "too many streams were asked for and not connected to; try again in a minute".to_owned();
            return Err(Error::FailedPrecondition { detail });
        }
        let token = crate::id::new();
        let url = format!("{}/{}/{token}", self.base, wish.name());
        wishes.insert(token, (Instant::now(), wish));
        Ok(url)
    }

    /// The URL of an exec.
    pub fn exec(&self, container_id: String, request: v1::ExecRequest) -> Result<String, Error> {
        let wanted = wanted(request.stdin, request.stdout, request.stderr, request.tty)?;
        self.running(&container_id)?;
        if request.cmd.is_empty() {
            return Err(Error::InvalidArgument { detail: "no command was given".to_owned() });
        }
        self.wish(Wish::Exec(ExecRequest { container_id, command: request.cmd, tty: request.tty }, wanted))
    }

    /// The URL of an attach.
    pub fn attach(&self, container_id: String, request: &v1::AttachRequest) -> Result<String, Error> {
        let wanted = wanted(request.stdin, request.stdout, request.stderr, request.tty)?;
        self.running(&container_id)?;
        self.wish(Wish::Attach(container_id, wanted))
    }

    /// The URL of a port-forward.
    pub fn port_forward(&self, sandbox_id: String, ports: &[i32]) -> Result<String, Error> {
        if self.runtime.sandbox(&sandbox_id)?.record.lock().state != SandboxState::Ready {
            return Err(Error::FailedPrecondition { detail: format!("sandbox {sandbox_id} is not running") });
        }
        let port = |port: &i32| {
            let valid = u16::try_from(*port).ok().filter(|port| *port != 0);
            valid.ok_or_else(|| Error::InvalidArgument { detail: format!("invalid port {port}") })
        };
        let ports = ports.iter().map(port).collect::<Result<_, _>>()?;
        self.wish(Wish::PortForward(sandbox_id, ports))
    }

    fn running(&self, container_id: &str) -> Result<(), Error> {
        match self.runtime.container(container_id)?.state() {
            ContainerState::Running => Ok(()),
            _ => Err(Error::FailedPrecondition { detail: format!("container {container_id} is not running") }),
        }
    }
}

/// The streams of a request, if they make sense: CRI has no stderr beside a terminal.
fn wanted(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Wanted, Error> {
    let refuse = |detail: &str| Err(Error::InvalidArgument { detail: detail.to_owned() });
    let wanted = Wanted { stdin, stdout, stderr, tty };
    if tty && stderr {
        return refuse("tty and stderr cannot both be true");
    }
    if !wanted.any() {
        return refuse("one of stdin, stdout, or stderr must be set");
    }
    Ok(wanted)
}

/// A connection of either kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
