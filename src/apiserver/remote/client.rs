//! Documents fetched from a server, and sent to one.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::time::timeout;

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
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    patience: Duration,
}

impl Client {
    /// Trusts `authorities`, or, if there are none, the host's, and shows `identity` to who asks for it.
    ///
    /// # Errors
    /// If a certificate or the key cannot be used.
    pub fn new(
        authorities: &[CertificateDer<'static>],
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        match authorities {
            [] => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(Error::NoAuthorities);
                }
            }
            authorities => {
                for authority in authorities {
                    roots.add(authority.clone())?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(k3s_tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let tls = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self { client: legacy::Client::builder(TokioExecutor::new()).build(connector), patience })
    }

    /// The document at `url`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, url: &str) -> Result<Value, Error> {
        self.exchange(Method::GET, url, None, Bytes::new()).await
    }

    /// The answer to a document; `credentials` say who asks (`Authorization`).
    ///
    /// # Errors
    /// If there is none.
    pub async fn post(&self, url: &str, credentials: Option<&HeaderValue>, document: Bytes) -> Result<Value, Error> {
        self.exchange(Method::POST, url, credentials, document).await
    }

    /// Hands a document over; what the server says beside that it has taken it, does not matter.
    ///
    /// # Errors
    /// If the server has not taken it.
    pub async fn deliver(&self, url: &str, credentials: Option<&HeaderValue>, document: Bytes) -> Result<(), Error> {
        self.send(Method::POST, url, credentials, document).await.map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        credentials: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<Value, Error> {
        let answer = self.send(method, url, credentials, body).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::NoJson { url: url.to_owned(), source })
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        credentials: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let unreachable = |detail: String| Error::Unreachable { url: url.to_owned(), detail };
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| unreachable(error.to_string()))?;
        if let Some(credentials) = credentials {
            request.headers_mut().insert(AUTHORIZATION, credentials.clone());
        }
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
