//! From an HTTP request to a connection that speaks something else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::response::{Body, Refusal};

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// RFC 6455, 1.3.
const WEBSOCKET_MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The upgraded connections of a server.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Connections {
    /// Ends them all, and those that still come, and waits until they have ended.
    pub async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What the connection becomes.
pub(crate) enum Upgrade {
    /// With the subprotocol agreed on.
    WebSocket(Box<WebSocketStream<TokioIo<Upgraded>>>, &'static str),
    Spdy(TokioIo<Upgraded>),
}

/// Agrees on a protocol out of `websocket` or `spdy`, answers, and hands the upgraded connection to `serve`, in a task
/// of the server's.
pub(crate) fn upgrade<B, F, R>(
    connections: &Connections,
    request: Request<B>,
    websocket: &[&'static str],
    spdy: &[&'static str],
    serve: F,
) -> Result<Response<Body>, Refusal>
where
    F: FnOnce(Upgrade) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let headers = request.headers();
    let wanted = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let subprotocol = match wanted.as_str() {
        "websocket" => {
            let chosen = choose(headers, &SEC_WEBSOCKET_PROTOCOL, websocket)?;
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(SEC_WEBSOCKET_ACCEPT, accept_key(headers)?);
            answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
            Some(chosen)
        }
        "spdy/3.1" => {
            let chosen = choose(headers, &STREAM_PROTOCOL, spdy)?;
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(chosen));
            None
        }
        _ => return Err(Refusal(StatusCode::BAD_REQUEST, "Upgrade request required".into())),
    };
    let upgrading = hyper::upgrade::on(request);
    let stopping = connections.stopping.clone();
    connections.tasks.spawn(async move {
        let served = async {
            let upgraded = match upgrading.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => {
                    tracing::debug!(%error, "connection was not upgraded");
                    return;
                }
            };
            match subprotocol {
                Some(subprotocol) => {
                    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
                    serve(Upgrade::WebSocket(Box::new(socket), subprotocol)).await;
                }
                None => serve(Upgrade::Spdy(upgraded)).await,
            }
        };
        stopping.run_until_cancelled(served).await;
    });
    Ok(response)
}

/// The first protocol the client names that is spoken here.
fn choose(headers: &HeaderMap, name: &HeaderName, spoken: &[&'static str]) -> Result<&'static str, Refusal> {
    let named = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named: Vec<&str> = named.map(str::trim).collect();
    let chosen = named.iter().find_map(|protocol| spoken.iter().find(|spoken| *spoken == protocol));
    chosen.copied().ok_or_else(|| {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {named:?}, server accepts {spoken:?}"
        );
        Refusal(StatusCode::FORBIDDEN, message)
    })
}

fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let missing = || Refusal(StatusCode::BAD_REQUEST, "missing Sec-WebSocket-Key".into());
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(missing)?;
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(WEBSOCKET_MAGIC).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_order_decides() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("x, v5.channel.k8s.io"));
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v4.channel.k8s.io"));
        let spoken = ["v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(choose(&headers, &SEC_WEBSOCKET_PROTOCOL, &spoken).unwrap(), "v5.channel.k8s.io");
        assert_eq!(choose(&headers, &SEC_WEBSOCKET_PROTOCOL, &["y"]).unwrap_err().0, StatusCode::FORBIDDEN);
    }

    #[test]
    fn the_key_is_accepted_as_the_rfc_shows() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept_key(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
