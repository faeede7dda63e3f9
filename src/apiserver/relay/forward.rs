//! One HTTP/1.1 exchange with a backend, and the tunnel it may turn into.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http::header::{CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::Relay;
use super::dial::{Backend, Connection};
use crate::authentication::WEBSOCKET_BEARER;
use crate::{Body, BoxError};

/// How long a backend may take to begin its answer.
const RESPONSE: Duration = Duration::from_secs(60);
const NO_HEAD: &str = "timeout awaiting response headers";

/// Headers that are between two neighbours only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    UPGRADE,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("te"),
];

/// What is sent on.
pub(super) struct Outgoing<B> {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The client's; what is not for the backend is left out.
    pub headers: HeaderMap,
    pub body: B,
    /// The client's connection, if it asks to upgrade it.
    pub upgrade: Option<OnUpgrade>,
}

impl<B> Outgoing<B> {
    /// From a client's request, to another path.
    pub fn new(mut request: Request<B>, path: String) -> Self {
        let upgrade =
            wants_upgrade(request.headers()).then(|| request.extensions_mut().remove::<OnUpgrade>()).flatten();
        let (parts, body) = request.into_parts();
        Self { method: parts.method, path, headers: parts.headers, body, upgrade }
    }
}

/// Whether the client asks to speak something else on this connection.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        && headers.contains_key(UPGRADE)
}

impl Relay {
    /// Sends the request on `backend` and returns its answer; one of 101 has become a tunnel between the client and the
    /// backend.
    ///
    /// # Errors
    /// In words, if the backend cannot be reached or gives no answer.
    pub(super) async fn forward<B>(&self, backend: &Backend, outgoing: Outgoing<B>) -> Result<Response<Body>, String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (response, client) = self.send(backend, outgoing).await?;
        self.passed_on(response, client)
    }

    /// As [`Relay::forward`], on a connection that is there already, to a server of that name.
    ///
    /// # Errors
    /// In words, if it gives no answer.
    pub(super) async fn forward_on<B>(
        &self,
        stream: Box<dyn Connection>,
        host: HeaderValue,
        outgoing: Outgoing<B>,
    ) -> Result<Response<Body>, String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (response, client) = self.send_on(stream, host, outgoing).await?;
        self.passed_on(response, client)
    }

    /// The backend's answer; one of 101 begins a tunnel.
    fn passed_on(&self, mut response: Response<Incoming>, client: Option<OnUpgrade>) -> Result<Response<Body>, String> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else { return Err("the backend switched protocols unasked".to_owned()) };
            let backend_side = hyper::upgrade::on(&mut response);
            let stop = self.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tunnel(client, backend_side) => {}
                }
            });
            let mut answer = Response::new(Body::Empty);
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            return Ok(answer);
        }
        Ok(streamed(response))
    }

    /// Sends the request and waits for the head of the answer. Gives the client's side back for a tunnel.
    pub(super) async fn send<B>(
        &self,
        backend: &Backend,
        outgoing: Outgoing<B>,
    ) -> Result<(Response<Incoming>, Option<OnUpgrade>), String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let stream = self.connect(backend).await?;
        let host = HeaderValue::from_str(&backend.address.to_string()).map_err(|error| error.to_string())?;
        let sent = self.send_on(stream, host, outgoing).await;
        sent.map_err(|error| if error == NO_HEAD { format!("{backend}: {NO_HEAD}") } else { error })
    }

    async fn send_on<B>(
        &self,
        stream: Box<dyn Connection>,
        host: HeaderValue,
        outgoing: Outgoing<B>,
    ) -> Result<(Response<Incoming>, Option<OnUpgrade>), String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let stop = self.stop.clone();
        // Ends with the response's body, or when that is dropped.
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(%error, "connection to a backend ended");
                },
            }
        });
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() =
            outgoing.path.parse().map_err(|error| format!("cannot request {}: {error}", outgoing.path))?;
        *request.headers_mut() = for_backend(outgoing.headers, outgoing.upgrade.is_some());
        request.headers_mut().insert(HOST, host);
        match timeout(RESPONSE, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok((response, outgoing.upgrade)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(NO_HEAD.to_owned()),
        }
    }
}

/// Bytes both ways, each direction closed when its sender closes it, until both are.
async fn tunnel(client: OnUpgrade, backend: OnUpgrade) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "upgrade failed"),
    };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    match tokio::io::copy_bidirectional(&mut client, &mut backend).await {
        Ok((sent, received)) => tracing::trace!(sent, received, "tunnel ended"),
        Err(error) => tracing::debug!(%error, "tunnel broke"),
    }
}

/// The client's headers without those that are for this server.
fn for_backend(mut headers: HeaderMap, upgrade: bool) -> HeaderMap {
    let protocol = headers.get(UPGRADE).cloned();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(http::header::AUTHORIZATION);
    // A token in the guise of a protocol is this server's business.
    let protocols: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(WEBSOCKET_BEARER))
        .collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::from_str(&protocols.join(", "))
        && !value.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    if let Some(protocol) = protocol.filter(|_| upgrade) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    headers
}

/// The backend's answer as ours, passed on as it comes.
pub(super) fn streamed(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    let stream = body.into_data_stream().map_err(BoxError::from);
    let mut response = Response::new(Body::stream(stream));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}
