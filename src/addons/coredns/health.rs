//! `/health` and `/ready` over plain HTTP, for the kubelet's probes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers `path` with 200 while `ok`, else 503. Never returns.
pub async fn serve(listener: TcpListener, path: &'static str, ok: Arc<dyn Fn() -> bool + Send + Sync>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a probe");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ok = ok.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path() == path, ok());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "probe connection failed");
            }
            drop(place);
        });
    }
}

fn answer(known: bool, ok: bool) -> Response<Full<Bytes>> {
    let (status, text) = match (known, ok) {
        (false, _) => (StatusCode::NOT_FOUND, "404 page not found\n"),
        (true, true) => (StatusCode::OK, "OK"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "records are not complete yet\n"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
