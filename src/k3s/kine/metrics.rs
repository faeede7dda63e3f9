//! `/metrics` of the datastore that runs alone.

use std::convert::Infallible;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k3s_kine::Metrics;
use k3s_kine::grpc::Address;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// What `encode` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `closing`; nothing if `address` is 0.
///
/// # Errors
/// If it can't be listened at the address.
pub async fn serve(
    address: &str,
    metrics: &Metrics,
    closing: CancellationToken,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    if address == "0" {
        return Ok(None);
    }
    let Address::Tcp(address) = address.parse().context("--metrics-bind-address")? else {
        anyhow::bail!("--metrics-bind-address is an address and port, or 0");
    };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve metrics at {address}; choose another --metrics-bind-address, or 0 for none")
    })?;
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let registry = std::sync::Arc::new(registry);
    Ok(Some(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => { connections.spawn(answer(stream, registry.clone())); }
                    Err(error) => tracing::warn!(%error, "cannot take a connection for metrics"),
                },
                Some(_) = connections.join_next() => {}
                () = closing.cancelled() => return,
            }
        }
    })))
}

async fn answer(stream: TcpStream, registry: std::sync::Arc<Registry>) {
    let service = service_fn(async |request: Request<Incoming>| {
        let mut response = Response::new(Full::new(Bytes::new()));
        let mut text = String::new();
        if request.uri().path() != "/metrics" {
            *response.status_mut() = StatusCode::NOT_FOUND;
        } else if encode(&mut text, &registry).is_err() {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        } else {
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
            *response.body_mut() = Full::new(text.into());
        }
        Ok::<_, Infallible>(response)
    });
    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}
