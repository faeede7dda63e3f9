//! Where CRI's `Exec`, `Attach` and `PortForward` send their callers.
//!
//! Those calls only note what is wished for and return a URL with a token that nobody can guess, good for one connection
//! within a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use k3s_cri::{ContainerState, Error, ExecRequest, RuntimeService as _, SandboxState};
use k3s_streaming::{Body, Connections, Refusal, Wanted, port_forward, remote_command};
use k8s_cri::v1;
use parking_lot::Mutex;

use crate::Runtime;

/// How long a URL is good for, as with other runtimes.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// How many URLs may wait for their connections.
const MOST: usize = 1000;

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

/// What has been wished for, and the streams there are.
pub(super) struct Streams {
    runtime: Arc<Runtime>,
    /// `http://127.0.0.1:PORT`.
    base: String,
    wishes: Mutex<HashMap<String, (Instant, Wish)>>,
    connections: Connections,
}

impl Streams {
    /// For a server whose root is `base`, such as `http://127.0.0.1:45871`.
    pub fn new(runtime: Arc<Runtime>, base: String) -> Self {
        Self { runtime, base, wishes: Mutex::default(), connections: Connections::default() }
    }

    /// Ends all streams.
    pub async fn close(&self) {
        self.connections.close().await;
    }

    /// Connects a wish with its caller.
    pub fn connect(&self, what: &str, token: &str, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let unknown = || Refusal(StatusCode::NOT_FOUND, "404 page not found: ask for a new URL".to_owned());
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
