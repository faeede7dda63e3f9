//! rootlesskit's API on `api.sock` in the state directory, so that `rootlessctl` and whatever else speaks it works:
//! `GET /v1/info`, `GET` and `POST /v1/ports`, `DELETE /v1/ports/ID`.
//!
//! It is served inside, where the relays are. The directory is the same file on both sides, and a socket with a path
//! belongs to no network namespace. Only the user can connect: the directory is 0700 and the socket 0600.
//!
//! Source: <https://github.com/rootless-containers/rootlesskit/blob/master/pkg/api/openapi.yaml>

mod model;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};

use crate::published::PublishedPorts;
use model::{ErrorJson, PortSpec, PortStatus, RootlessInfo};

/// Name of the socket, as in rootlesskit.
const SOCKET: &str = "api.sock";
/// Far more than a port takes.
const BODY_LIMIT: usize = 64 * 1024;

/// The API can't be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve rootlesskit's API on {path:?}: {source}")]
pub struct ApiError {
    path: PathBuf,
    source: io::Error,
}

/// Listens at once, and returns a future that serves these ports until it is dropped.
///
/// # Errors
/// The socket can't be made.
pub fn serve_api(ports: PublishedPorts) -> Result<impl Future<Output = ()> + Send + use<>, ApiError> {
    let path = ports.host().info().state_dir.join(SOCKET);
    let listener = listen(&path).map_err(|source| ApiError { path, source })?;
    Ok(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, ports.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the rootless API");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    })
}

/// An earlier server's socket is in the way. It is nobody's: the launcher holds the lock of its directory.
fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, ports: PublishedPorts) {
    let service = service_fn(|request| {
        let ports = ports.clone();
        async move { Ok::<_, Infallible>(answer(request, &ports).await) }
    });
    // The other side may go at any time.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, ports: &PublishedPorts) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["v1", "info"]) => json(StatusCode::OK, &RootlessInfo::from(ports.host().info())),
        (&Method::GET, ["v1", "ports"]) => {
            let all: Vec<PortStatus> = ports.list().into_iter().map(PortStatus::from).collect();
            json(StatusCode::OK, &all)
        }
        (&Method::POST, ["v1", "ports"]) => match add(request, ports).await {
            Ok(status) => json(StatusCode::CREATED, &status),
            Err(message) => error(StatusCode::BAD_REQUEST, message),
        },
        (&Method::DELETE, ["v1", "ports", id]) => match remove(id, ports).await {
            Ok(()) => Response::new(Full::default()),
            Err(message) => error(StatusCode::BAD_REQUEST, message),
        },
        (_, ["v1", "info" | "ports"] | ["v1", "ports", _]) => {
            error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed".into())
        }
        _ => error(StatusCode::NOT_FOUND, format!("no such path: {path}")),
    }
}

async fn add(request: Request<Incoming>, ports: &PublishedPorts) -> Result<PortStatus, String> {
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await.map_err(|e| e.to_string())?;
    let spec: PortSpec = serde_json::from_slice(&body.to_bytes()).map_err(|e| format!("bad port: {e}"))?;
    let (protocol, listen, target) = spec.parse()?;
    let published = ports.publish(protocol, listen, target).await.map_err(|e| e.to_string())?;
    Ok(published.into())
}

async fn remove(id: &str, ports: &PublishedPorts) -> Result<(), String> {
    let number = id.parse().map_err(|_| format!("bad id {id:?}"))?;
    ports.withdraw(number).await.map_err(|e| e.to_string())
}

fn error(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    json(status, &ErrorJson { message })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // Nothing here has a map with keys that are no strings, which is all that could fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
