//! Documents fetched from a server, and sent to one.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use super::connect::{Connect, Route};

/// Answers are not longer than this.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the host has no certificates of authorities; name the server's own")]
    NoAuthorities,
    #[error("{url} does not answer: {detail}")]
    Unreachable { url: String, detail: String },
    #[error("{url} answers with code {code}")]
    Refused { url: String, code: u16 },
    #[error("{url} does not answer with JSON: {source}")]
    NoJson { url: String, source: serde_json::Error },
}

impl Error {
    /// Whether the server says that it is worth asking again.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { code: 429 | 500 | 502..=504, .. })
    }
}

/// A client of such a server, with connections that are kept.
#[derive(Debug, Clone)]
pub struct Client {
    client: legacy::Client<HttpsConnector<Route>, Full<Bytes>>,
    patience: Duration,
}

impl Client {
    /// Connects as `connect` says; servers have `patience` to answer.
    ///
    /// # Errors
    /// If a certificate or the key cannot be used.
    pub fn new(connect: Connect, patience: Duration) -> Result<Self, Error> {
        let connector = connect.connector()?;
        Ok(Self { client: legacy::Client::builder(TokioExecutor::new()).build(connector), patience })
    }

    /// The document at `url`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, url: &str) -> Result<Value, Error> {
        self.exchange(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// The answer to a document; `headers` say who asks.
    ///
    /// # Errors
    /// If there is none.
    pub async fn post(&self, url: &str, headers: HeaderMap, document: Bytes) -> Result<Value, Error> {
        self.exchange(Method::POST, url, headers, document).await
    }

    /// Hands a document over; what the server says beside that it has taken it, does not matter.
    ///
    /// # Errors
    /// If the server has not taken it.
    pub async fn deliver(&self, url: &str, headers: HeaderMap, document: Bytes) -> Result<(), Error> {
        self.send(Method::POST, url, headers, document).await.map(drop)
    }

    async fn exchange(&self, method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Value, Error> {
        let answer = self.send(method, url, headers, body).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::NoJson { url: url.to_owned(), source })
    }

    async fn send(&self, method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Bytes, Error> {
        let unreachable = |detail: String| Error::Unreachable { url: url.to_owned(), detail };
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| unreachable(error.to_string()))?;
        request.headers_mut().extend(headers);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unreachable(causes(&error)))?;
            let code = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            if !code.is_success() {
                return Err(Error::Refused { url: url.to_owned(), code: code.as_u16() });
            }
            Ok(body)
        };
        timeout(self.patience, exchange).await.unwrap_or_else(|_| Err(unreachable("it takes too long".to_owned())))
    }
}

/// An error with what is behind it: the client's own says no more than that it could not connect.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
