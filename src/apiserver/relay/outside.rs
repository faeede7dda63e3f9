//! Servers that objects name and that this one asks: admission and conversion webhooks, aggregated API servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k3s_api::object::text;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Connection, Relay, dial, target, trust};
use crate::registry::Registry;

/// Answers are not longer than this.
const MAX_ANSWER: usize = 8 << 20;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where such a server is, and how it proves itself.
pub(crate) struct Server {
    address: SocketAddr,
    node: String,
    /// Its name in the certificate and the `Host` header.
    host: String,
    tls: Arc<ClientConfig>,
}

impl Server {
    /// Finds the server of a `WebhookClientConfig`, or of anything that has its fields: `url` or `service`, `caBundle`.
    ///
    /// # Errors
    /// In words, if it cannot be found.
    pub async fn find(relay: &Relay, registry: &Registry, config: &Value) -> Result<Self, String> {
        let tls = trust(relay, config)?;
        Self::locate(registry, config, tls).await
    }

    /// As [`Server::find`], with what [`trust`] has made of the configuration.
    pub(super) async fn locate(registry: &Registry, config: &Value, tls: Arc<ClientConfig>) -> Result<Self, String> {
        match text(config, &["url"]).filter(|url| !url.is_empty()) {
            Some(url) => Self::at_url(url, tls).await,
            None => Self::of_service(registry, config, tls).await,
        }
    }

    async fn at_url(url: &str, tls: Arc<ClientConfig>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("invalid URL {url:?}: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("the URL {url:?} names no host"))?.to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses =
            tokio::net::lookup_host((bare, port)).await.map_err(|error| format!("dial tcp: lookup {bare}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("dial tcp: lookup {bare}: no such host"))?;
        Ok(Self { address, node: String::new(), host: bare.to_owned(), tls })
    }

    async fn of_service(registry: &Registry, config: &Value, tls: Arc<ClientConfig>) -> Result<Self, String> {
        let field = |name| text(config, &["service", name]).unwrap_or_default();
        let (namespace, name) = (field("namespace"), field("name"));
        let port = config["service"]["port"].as_u64().unwrap_or(443);
        let found = target::service(registry, namespace, &format!("https:{name}:{port}")).await;
        let backend = found.map_err(|status| match status.code {
            404 => format!("service {name:?} not found"),
            _ => status.message,
        })?;
        let host = format!("{name}.{namespace}.svc");
        Ok(Self { address: backend.address, node: backend.node, host, tls })
    }

    /// As errors name it.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.address.port())
    }

    /// A new connection, with its handshake done.
    pub(super) async fn connect(&self, relay: &Relay) -> Result<TlsStream<Box<dyn Connection>>, String> {
        let stream = relay.dialer.connect(&self.node, self.address).await;
        let stream = stream.map_err(|error| dial::dial_error(self.address, &error))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        timeout(HANDSHAKE, connector.connect(name, stream))
            .await
            .map_err(|_| "net/http: TLS handshake timeout".to_owned())?
            .map_err(|error| trust::tls_error(&error))
    }

    /// What its requests name as their host.
    pub(super) fn authority(&self) -> Result<HeaderValue, String> {
        let host = format!("{}:{}", self.host, self.address.port());
        HeaderValue::from_str(&host).map_err(|error| error.to_string())
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// In words, if the server cannot be reached or does not answer.
    pub async fn send<B>(&self, relay: &Relay, mut request: Request<B>) -> Result<Response<Incoming>, String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<crate::BoxError>,
    {
        let stream = self.connect(relay).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let stop = relay.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection to a server that an object names ended");
                },
            }
        });
        request.headers_mut().insert(HOST, self.authority()?);
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// In words.
    pub async fn exchange(
        &self,
        relay: &Relay,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| format!("cannot request {path}: {error}"))?;
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.send(relay, request).await?;
            let code = response.status();
            match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
                Ok(body) => Ok((code, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err("the server's answer is too long".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        timeout(within, exchange).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    }
}

/// TLS towards such a server: with the authorities of its `caBundle` alone, or those of the host if it has none.
pub(super) fn trust(relay: &Relay, config: &Value) -> Result<Arc<ClientConfig>, String> {
    match config.get("insecureSkipTLSVerify").and_then(Value::as_bool) {
        Some(true) => Ok(Arc::clone(&relay.unverified_front_proxy)),
        _ => trust::tls(text(config, &["caBundle"]).unwrap_or_default(), relay.front_proxy.as_ref()),
    }
}
