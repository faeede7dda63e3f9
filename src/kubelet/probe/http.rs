//! Probing by an HTTP request. Lifecycle hooks use the same request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k3s_cri::Duplex;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Outcome, port, tcp};

const MAX_BODY: usize = 10 * 1024;

/// Requests as `action` says, at the pod's address unless it names a host.
pub(crate) async fn get(action: &HTTPGetAction, container: &Container, pod_host: &str, timeout: Duration) -> Outcome {
    let Some(port) = port::resolve(&action.port, container) else {
        return Outcome::Failure(format!("couldn't find port: {:?}", action.port));
    };
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_host);
    let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("HTTPS"));
    let path = match action.path.as_deref().unwrap_or("/") {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let url = format!("{}://{}{path}", if tls { "https" } else { "http" }, authority(host, port));
    match tokio::time::timeout(timeout, request(action, host, port, &path, tls, &url)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn request(action: &HTTPGetAction, host: &str, port: u16, path: &str, tls: bool, url: &str) -> Outcome {
    let failure = |error: &dyn std::fmt::Display| Outcome::Failure(format!("Get \"{url}\": {error}"));
    let stream = match TcpStream::connect((host, port)).await {
        Ok(stream) => stream,
        Err(error) => {
            let message =
                format!("Get \"{url}\": dial tcp {}: connect: {}", authority(host, port), tcp::go_text(&error));
            return Outcome::of_io(&error, message);
        }
    };
    let stream: Box<dyn Duplex> = if tls {
        match handshake(stream, host).await {
            Ok(stream) => stream,
            Err(error) => return failure(&error),
        }
    } else {
        Box::new(stream)
    };
    let request = match build(action, path, &authority(host, port)) {
        Ok(request) => request,
        Err(error) => return failure(&error),
    };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return failure(&error),
    };
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // The body is read so that a server with a short answer does not see a reset; its contents don't matter.
        let _ = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok::<_, hyper::Error>(status)
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let answer = tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The answer may already be there when the connection closes.
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(status) if (200..400).contains(&status.as_u16()) => Outcome::Success,
        Ok(status) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
        Err(error) => failure(&error),
    }
}

fn build(action: &HTTPGetAction, path: &str, authority: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::builder().uri(path).body(Empty::new())?;
    let headers = request.headers_mut();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str())?;
        let value = HeaderValue::try_from(header.value.as_str())?;
        // An empty value of a default header takes the header away.
        if value.is_empty() && (name == ACCEPT || name == USER_AGENT) {
            headers.insert(name, HeaderValue::from_static(""));
        } else {
            headers.append(name, value);
        }
    }
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    }
    if !headers.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    }
    for name in [USER_AGENT, ACCEPT] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(name);
        }
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::try_from(authority)?);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn handshake(stream: TcpStream, host: &str) -> std::io::Result<Box<dyn Duplex>> {
    // Probes ask whether a server answers, not who it is.
    let config = ClientConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(k3s_tls::Server::by(k3s_tls::AnyServer))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use tokio::net::TcpListener;

    /// A server that answers `/status/<code>` with that code if the probe's headers are as they should be.
    async fn serve() -> (u16, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let expected =
                        request.headers()[USER_AGENT] == "kube-probe/1.36" && request.headers()["x-own"] == "1";
                    let code = request.uri().path().rsplit('/').next().and_then(|code| code.parse().ok());
                    let code = code.filter(|_| expected).unwrap_or(418u16);
                    Response::builder().status(code).body(Full::<Bytes>::from("body"))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        (port, task)
    }

    fn action(port: u16, path: &str) -> HTTPGetAction {
        serde_json::from_value(serde_json::json!({"path": path, "port": port,
            "httpHeaders": [{"name": "X-Own", "value": "1"}]}))
        .unwrap()
    }

    #[tokio::test]
    async fn status_codes_below_400_are_healthy() {
        let (port, server) = serve().await;
        let container = Container::default();
        for (code, healthy) in [(200, true), (302, true), (399, true), (404, false), (500, false)] {
            let outcome =
                get(&action(port, &format!("/status/{code}")), &container, "127.0.0.1", Duration::from_secs(5)).await;
            let expected = match healthy {
                true => Outcome::Success,
                false => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
            };
            assert_eq!(outcome, expected, "{code}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn a_silent_server_times_out_and_a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let container = Container::default();
        let outcome = get(&action(port, "/"), &container, "127.0.0.1", Duration::from_millis(50)).await;
        assert!(matches!(outcome, Outcome::Failure(message) if message.contains("context deadline exceeded")));
        drop(listener);
        let outcome = get(&action(port, "/"), &container, "127.0.0.1", Duration::from_secs(5)).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn ports_have_names() {
        let (port, server) = serve().await;
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": port}]}))
                .unwrap();
        let mut action = action(port, "/status/200");
        action.port = IntOrString::String("web".into());
        assert_eq!(get(&action, &container, "127.0.0.1", Duration::from_secs(5)).await, Outcome::Success);
        action.port = IntOrString::String("none".into());
        let outcome = get(&action, &container, "127.0.0.1", Duration::from_secs(5)).await;
        assert!(matches!(outcome, Outcome::Failure(_)));
        server.abort();
    }
}
