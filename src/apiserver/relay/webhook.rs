//! Requests to webhooks: JSON there and back over connections that are kept for the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k3s_api::object::text;
use k3s_api::status::Status;
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Relay;
use super::outside::{self, Server};
use crate::registry::Registry;

/// Answers are not longer than this.
const MAX_ANSWER: usize = 8 << 20;
/// Connections that wait for the next request, per webhook.
const MAX_IDLE: usize = 8;
/// How long they wait.
const IDLE: Duration = Duration::from_secs(90);

/// The client of one webhook, as its `clientConfig` says.
pub(crate) struct Client {
    config: Value,
    tls: OnceCell<Arc<ClientConfig>>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// A connection, which ends with this.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a request failed.
enum Failed {
    /// The server had closed the connection: it has seen nothing of the request.
    Stale,
    Error(String),
}

impl Client {
    /// Of a `WebhookClientConfig`: `url` or `service`, `caBundle`.
    pub fn new(config: &Value) -> Self {
        Self { config: config.clone(), tls: OnceCell::new(), idle: Mutex::default() }
    }

    /// As errors name it: `https://name.namespace.svc:443/path?timeout=10s`.
    fn url(&self, within: Duration) -> String {
        let base = match text(&self.config, &["url"]).filter(|url| !url.is_empty()) {
            Some(url) => url.to_owned(),
            None => {
                let field = |name| text(&self.config, &["service", name]).unwrap_or_default();
                let port = self.config["service"]["port"].as_u64().unwrap_or(443);
                let path = field("path");
                let slash = if path.starts_with('/') { "" } else { "/" };
                format!("https://{}.{}.svc:{port}{slash}{path}", field("name"), field("namespace"))
            }
        };
        let sign = if base.contains('?') { '&' } else { '?' };
        // The server is told how long it has, in whole seconds.
        format!("{base}{sign}timeout={}s", within.as_secs().max(1))
    }

    /// Sends a review and reads the answer, all within that time.
    ///
    /// # Errors
    /// In Kubernetes' words: what went wrong on the way, or the status of an answer that is none.
    pub async fn post(
        &self,
        relay: &Relay,
        registry: &Registry,
        review: &Value,
        within: Duration,
    ) -> Result<Value, String> {
        let url = self.url(within);
        let failed = |why: String| format!("Post {url:?}: {why}");
        let body = Bytes::from(review.to_string());
        let exchange = timeout(within, self.exchange(relay, registry, &url, body));
        let (code, body, is_text) = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(failed(why)),
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
        };
        if !code.is_success() {
            return Err(refusal(code, &body, is_text));
        }
        serde_json::from_slice(&body).map_err(|_| {
            let why = k3s_api::decode::syntax::error(&body);
            let why = why.unwrap_or_else(|| "unexpected end of JSON input".to_owned());
            format!("couldn't get version/kind; json parse error: {why}")
        })
    }

    async fn exchange(
        &self,
        relay: &Relay,
        registry: &Registry,
        url: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes, bool), String> {
        while let Some(connection) = self.kept() {
            match self.send(connection, url, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Stale) => {}
                Err(Failed::Error(why)) => return Err(why),
            }
        }
        let connection = self.connect(relay, registry).await?;
        match self.send(connection, url, body).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Stale) => Err("EOF".to_owned()),
            Err(Failed::Error(why)) => Err(why),
        }
    }

    /// A connection of before that can still be used.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(|(since, connection)| since.elapsed() < IDLE && !connection.sender.is_closed());
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !connection.sender.is_closed() {
            idle.push((Instant::now(), connection));
        }
    }

    async fn connect(&self, relay: &Relay, registry: &Registry) -> Result<Connection, String> {
        let tls = self.tls.get_or_try_init(|| async { outside::trust(relay, &self.config) }).await?;
        let server = Server::locate(registry, &self.config, Arc::clone(tls)).await?;
        let stream = server.connect(relay).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a webhook ended");
            }
        });
        Ok(Connection { sender, host: server.authority()?, task: task.abort_handle() })
    }

    async fn send(
        &self,
        mut connection: Connection,
        url: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes, bool), Failed> {
        let error = |why: String| Failed::Error(why);
        // From the path on: a request to a server, not to a proxy.
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/{path}"))
            .header(HOST, connection.host.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|why| error(why.to_string()))?;
        if connection.sender.ready().await.is_err() {
            return Err(Failed::Stale);
        }
        let answer = match connection.sender.try_send_request(request).await {
            Ok(answer) => answer,
            // Never sent: the request came back.
            Err(failure) if failure.message().is_some() => return Err(Failed::Stale),
            Err(failure) => {
                let failure = failure.into_error();
                return Err(error(if failure.is_incomplete_message() {
                    "EOF".to_owned()
                } else {
                    failure.to_string()
                }));
            }
        };
        let code = answer.status();
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_text = content_type.is_none_or(|of| of.starts_with("text/"));
        match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => {
                self.keep(connection);
                Ok((code, body.to_bytes(), is_text))
            }
            Err(failure) if failure.is::<LengthLimitError>() => Err(error("the answer is too long".to_owned())),
            Err(failure) => Err(error(failure.to_string())),
        }
    }
}

/// What Kubernetes' client makes of an answer that is an error.
fn refusal(code: StatusCode, body: &[u8], is_text: bool) -> String {
    if let Ok(status) = serde_json::from_slice::<Value>(body)
        && status["kind"] == "Status"
        && let message = Status::received(&status).message
        && !message.is_empty()
    {
        return message;
    }
    let said = match is_text {
        true => String::from_utf8_lossy(body).trim().to_owned(),
        false => "unknown".to_owned(),
    };
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 406 | 415 | 503 => said,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        code => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_is_named_by_its_service_or_its_url() {
        let ten = Duration::from_secs(10);
        let service = json!({"service": {"name": "hook", "namespace": "ns", "path": "/mutate", "port": 8443}});
        assert_eq!(Client::new(&service).url(ten), "https://hook.ns.svc:8443/mutate?timeout=10s");
        let service = json!({"service": {"name": "hook", "namespace": "ns"}});
        assert_eq!(Client::new(&service).url(ten), "https://hook.ns.svc:443/?timeout=10s");
        let url = json!({"url": "https://hook.example:1/a"});
        assert_eq!(Client::new(&url).url(ten), "https://hook.example:1/a?timeout=10s");
    }

    #[test]
    fn errors_of_the_server_read_as_from_kubernetes() {
        let said = |code: u16, body: &str| refusal(StatusCode::from_u16(code).unwrap(), body.as_bytes(), true);
        assert_eq!(said(404, "nothing"), "the server could not find the requested resource");
        assert_eq!(said(500, "no\n"), r#"an error on the server ("no") has prevented the request from succeeding"#);
        assert_eq!(said(418, r#"{"kind": "Status", "message": "teapot"}"#), "teapot");
    }
}
