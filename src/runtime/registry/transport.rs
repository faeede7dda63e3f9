//! HTTP to registries: connections, TLS, redirects.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::config::Tls;
use super::proxy::{self, Connector};
use super::{Endpoint, RegistryError};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// So long may a registry think before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Documents are small; what is not is no document.
const DOCUMENT_LIMIT: usize = 8 << 20;
const MAX_REDIRECTS: usize = 10;

type HttpClient = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// A request without a body, or with a small one.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: Vec<(http::HeaderName, String)>,
    pub body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn get(url: &'a str) -> Self {
        Self { method: Method::GET, url, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Connections to registries; one pool for each way of TLS.
pub(super) struct Transport {
    proxies: Arc<Matcher>,
    clients: Mutex<HashMap<Option<Tls>, HttpClient>>,
}

impl Transport {
    pub(super) fn new() -> Self {
        Self { proxies: Arc::new(proxy::from_environment()), clients: Mutex::default() }
    }

    pub(super) fn forget(&self) {
        self.clients.lock().clear();
    }

    fn client(&self, endpoint: &Endpoint) -> Result<HttpClient, RegistryError> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&endpoint.tls) {
            return Ok(client.clone());
        }
        let tls = tls_config(endpoint.tls.as_ref())
            .map_err(|detail| RegistryError::Tls { host: endpoint.host.clone(), detail })?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(self.proxies.clone()));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(15))
            .build(connector);
        clients.insert(endpoint.tls.clone(), client.clone());
        Ok(client)
    }

    /// Sends a request and follows redirects. Credentials go to the host they are for, and to no other.
    pub(super) async fn send(&self, endpoint: &Endpoint, call: Call<'_>) -> Result<Response<Incoming>, RegistryError> {
        let client = self.client(endpoint)?;
        let invalid = |url: &str, detail: String| RegistryError::Protocol { url: url.to_owned(), detail };
        let mut url: Uri =
            call.url.parse().map_err(|error: http::uri::InvalidUri| invalid(call.url, error.to_string()))?;
        let first = url.authority().cloned();
        for _ in 0..MAX_REDIRECTS {
            let text = url.to_string();
            let mut request = Request::builder().method(call.method.clone()).uri(url.clone());
            request = request.header(USER_AGENT, concat!("k3s/", env!("CARGO_PKG_VERSION")));
            for (name, value) in &call.headers {
                if *name != AUTHORIZATION || url.authority() == first.as_ref() {
                    request = request.header(name, value);
                }
            }
            if url.scheme_str() == Some("http")
                && let Some(auth) = self.proxies.intercept(&url).and_then(|proxy| proxy.basic_auth().cloned())
            {
                request = request.header(PROXY_AUTHORIZATION, auth);
            }
            let request =
                request.body(Full::new(call.body.clone())).map_err(|error| invalid(&text, error.to_string()))?;
            let unreachable = |detail: String| RegistryError::Unreachable { url: text.clone(), detail };
            let response = tokio::time::timeout(ANSWER_TIMEOUT, client.request(request))
                .await
                .map_err(|_| unreachable("no answer in time".to_owned()))?
                .map_err(|error| unreachable(causes(&error)))?;
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            match location {
                Some(location) if response.status().is_redirection() => url = follow(&url, location)?,
                _ => return Ok(response),
            }
        }
        Err(invalid(call.url, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// Where a redirect leads. Never from TLS to none.
fn follow(from: &Uri, location: &str) -> Result<Uri, RegistryError> {
    let invalid = |detail: &str| RegistryError::Protocol {
        url: from.to_string(),
        detail: format!("redirect to {location:?}: {detail}"),
    };
    let parsed: Uri = location.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
    let mut parts = parsed.into_parts();
    if parts.authority.is_none() {
        parts.authority = from.authority().cloned();
        parts.scheme = from.scheme().cloned();
    }
    if parts.path_and_query.as_ref().is_none_or(|path| !path.as_str().starts_with('/')) {
        return Err(invalid("it has no absolute path"));
    }
    if parts.scheme.is_none() {
        parts.scheme = from.scheme().cloned();
    }
    let to = Uri::from_parts(parts).map_err(|error| invalid(&error.to_string()))?;
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return Err(invalid("it leads from https to http"));
    }
    Ok(to)
}

/// The whole of a small answer.
pub(super) async fn document(url: &str, body: Incoming) -> Result<Bytes, RegistryError> {
    let read = Limited::new(body, DOCUMENT_LIMIT).collect();
    let unreachable = |detail: String| RegistryError::Unreachable { url: url.to_owned(), detail };
    let collected = tokio::time::timeout(ANSWER_TIMEOUT, read)
        .await
        .map_err(|_| unreachable("the answer breaks off".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    Ok(collected.to_bytes())
}

/// An error with what caused it, which is where the reason is.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(cause) = current {
        text = format!("{text}: {cause}");
        current = cause.source();
    }
    text
}

/// This machine's certificates, read once: they are hundreds.
fn native_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "cannot read some of this machine's certificates");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

fn tls_config(tls: Option<&Tls>) -> Result<ClientConfig, String> {
    let default = Tls::default();
    let tls = tls.unwrap_or(&default);
    let given = |path: &Path| !path.as_os_str().is_empty();
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut roots = native_roots().clone();
    if given(&tls.ca_file) {
        for certificate in certificates(&tls.ca_file)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", tls.ca_file.display()))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(k3s_tls::Server::by(k3s_tls::AnyServer))
    } else {
        builder.with_root_certificates(roots)
    };
    if given(&tls.cert_file) || given(&tls.key_file) {
        let key = PrivateKeyDer::from_pem_file(&tls.key_file)
            .map_err(|error| format!("{}: {error}", tls.key_file.display()))?;
        return builder
            .with_client_auth_cert(certificates(&tls.cert_file)?, key)
            .map_err(|error| format!("{}: {error}", tls.cert_file.display()));
    }
    Ok(builder.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_on_but_never_out_of_tls() {
        let from: Uri = "https://registry/v2/a/blobs/b".parse().unwrap();
        assert_eq!(follow(&from, "https://cdn/x?y=z").unwrap().to_string(), "https://cdn/x?y=z");
        assert_eq!(follow(&from, "/v2/elsewhere").unwrap().to_string(), "https://registry/v2/elsewhere");
        assert!(follow(&from, "http://cdn/x").is_err());
        assert!(follow(&from, "no/root").is_err());
    }
}
