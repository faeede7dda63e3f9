//! Probing by gRPC's health protocol.
//!
//! One unary call with one field each way: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>. The
//! messages are written by hand, for they are smaller than what a generated client would need.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Outcome, http::authority, tcp};

const SERVING: u8 = 1;

pub(super) async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, check(host, port, service)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{}\" within {timeout:?}: context deadline exceeded",
            authority(host, port)
        )),
    }
}

async fn check(host: &str, port: u16, service: &str) -> Outcome {
    let address = authority(host, port);
    let stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::of_io(&error, format!("dial tcp {address}: connect: {}", tcp::go_text(&error))),
    };
    match call(stream, &address, service).await {
        Ok(SERVING) => Outcome::Success,
        Ok(status) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "unrecognized",
            };
            Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
        }
        Err(error) => Outcome::Failure(format!("error: health rpc failed: {error}")),
    }
}

async fn call(stream: TcpStream, address: &str, service: &str) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(message(service))))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("HTTP status {}", response.status()).into());
        }
        status(response.headers())?;
        let body = response.into_body().collect().await?;
        if let Some(trailers) = body.trailers() {
            status(trailers)?;
        }
        Ok(serving_status(&body.to_bytes()))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => match ended {
            Ok(()) => Err("connection closed".into()),
            Err(error) => Err(error.into()),
        },
    }
}

/// `HealthCheckRequest{service: 1}` with gRPC's prefix: not compressed, length.
fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        body.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes());
    message.extend(body);
    message
}

/// `HealthCheckResponse{status: 1}`; absent is UNKNOWN.
fn serving_status(message: &[u8]) -> u8 {
    match message.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    }
}

fn status(headers: &HeaderMap) -> Result<(), String> {
    let Some(code) = headers.get("grpc-status").and_then(|code| code.to_str().ok()).filter(|code| *code != "0") else {
        return Ok(());
    };
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    match code {
        "12" => Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into()),
        _ => Err(format!("rpc error: code = {code} desc = {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    /// A health server that serves the service `up` and knows of `down`.
    async fn serve() -> (u16, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let status = if body.ends_with(b"up") { 1 } else { 2 };
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let frames = vec![
                        Ok::<_, hyper::Error>(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))),
                        Ok(Frame::trailers(trailers)),
                    ];
                    Ok::<_, hyper::Error>(http::Response::new(StreamBody::new(futures::stream::iter(frames))))
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        (port, task)
    }

    #[tokio::test]
    async fn only_a_serving_service_is_healthy() {
        let (port, server) = serve().await;
        assert_eq!(probe("127.0.0.1", port, "up", Duration::from_secs(5)).await, Outcome::Success);
        let down = probe("127.0.0.1", port, "down", Duration::from_secs(5)).await;
        assert_eq!(down, Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into()));
        server.abort();
    }
}
