//! Requests to the API server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::io::AsyncBufRead;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::discovery::Discovery;
use crate::error::{ApiError, Error};
use crate::flags::GlobalFlags;
use crate::kubeconfig;

pub const JSON: &str = "application/json";
pub const JSON_PATCH: &str = "application/json-patch+json";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
pub const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// What need not be escaped in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A query string, made part by part.
#[derive(Debug, Clone, Default)]
pub struct Query(String);

impl Query {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, QUERY));
    }

    /// Adds a parameter.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.add(key, value);
        self
    }

    /// Adds a parameter if there is a value.
    pub fn with_some(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.with(key, value),
            _ => self,
        }
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The API server of the kubeconfig, and the namespace to work in.
pub struct Cluster {
    pub client: kube::Client,
    pub namespace: String,
    /// Whether the namespace was asked for with `-n`: files must not name another.
    pub namespace_enforced: bool,
    /// `https://host:port`
    pub server: String,
    timeout: Option<Duration>,
    verbosity: u8,
    discovery: OnceCell<Discovery>,
}

impl Cluster {
    /// Makes the client. Sends nothing yet.
    pub async fn connect(flags: &GlobalFlags) -> Result<Self, Error> {
        let config = kubeconfig::client_config(flags).await?;
        let namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = kube::Client::try_from(config)
            .map_err(|error| Error::Unreachable { cause: kubeconfig::full_message(&error) })?;
        let timeout = Some(flags.request_timeout).filter(|timeout| !timeout.is_zero());
        Ok(Self {
            client,
            namespace,
            namespace_enforced: flags.namespace.is_some(),
            server,
            timeout,
            verbosity: flags.verbosity,
            discovery: OnceCell::new(),
        })
    }

    /// What the server serves; asked for once.
    pub async fn discovery(&self) -> Result<&Discovery, Error> {
        self.discovery.get_or_try_init(|| Discovery::fetch(self)).await
    }

    /// `host:port` of the server.
    pub fn host(&self) -> &str {
        self.server.split_once("://").map_or(self.server.as_str(), |(_, rest)| rest)
    }

    /// Sends a request and gives the answer if it is a success.
    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let what = format!("{} {}{}", request.method(), self.server, request.uri());
        let start = Instant::now();
        let answer = self.client.send(request).await.map_err(|error| self.transport_error(&error))?;
        let status = answer.status();
        if self.verbosity >= 6 {
            eprintln!("{what} {status} in {} milliseconds", start.elapsed().as_millis());
        }
        for warning in answer.headers().get_all(http::header::WARNING) {
            // 299 - "text"
            if let Some((_, text)) = warning.to_str().ok().and_then(|value| value.split_once('"')) {
                eprintln!("Warning: {}", text.trim_end_matches('"').replace("\\\"", "\""));
            }
        }
        if status.is_success() || status.as_u16() == 101 {
            return Ok(answer);
        }
        let body = answer.into_body().collect().await.map_err(|error| self.transport_error(&error))?.to_bytes();
        Err(Error::Api(Box::new(ApiError::of(status.as_u16(), &body, &what))))
    }

    fn transport_error(&self, error: &kube::Error) -> Error {
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::ConnectionRefused
            {
                return Error::Refused { server: self.host().to_owned() };
            }
            source = cause.source();
        }
        Error::Unreachable { cause: kubeconfig::full_message(error) }
    }

    /// An error of one of kube's own calls (exec, attach, port-forward).
    pub fn stream_error(&self, error: kube::Error) -> Error {
        match error {
            kube::Error::Api(status) => {
                let body = serde_json::to_vec(&status).unwrap_or_default();
                Error::Api(Box::new(ApiError::of(status.code, &body, "upgrade")))
            }
            other => self.transport_error(&other),
        }
    }

    /// A request with its answer as bytes.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, Error> {
        if self.verbosity >= 8 && !body.is_empty() {
            eprintln!("Request Body: {}", String::from_utf8_lossy(&body));
        }
        let request = build(method, path, accept, content_type, body)?;
        let exchange = async {
            let answer = self.exchange(request).await?;
            let body = answer.into_body().collect().await.map_err(|error| self.transport_error(&error))?;
            Ok(body.to_bytes())
        };
        let answer = match self.timeout {
            None => exchange.await?,
            Some(timeout) => tokio::time::timeout(timeout, exchange).await.map_err(|_| Error::Unreachable {
                cause: "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned(),
            })??,
        };
        if self.verbosity >= 8 {
            eprintln!("Response Body: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value, Error> {
        let answer = self.request(method, path, accept, content_type, body).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Answer { request: path.to_owned(), cause: error.to_string() })
    }

    /// GET, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.json(Method::GET, path, JSON, JSON, Vec::new()).await
    }

    /// GET of what the `Accept` header says.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Value, Error> {
        self.json(Method::GET, path, accept, JSON, Vec::new()).await
    }

    /// GET; `None` if it is not there.
    pub async fn get_optional(&self, path: &str) -> Result<Option<Value>, Error> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// POST of an object.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.json(Method::POST, path, JSON, JSON, object.to_string().into_bytes()).await
    }

    /// PUT of an object.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.json(Method::PUT, path, JSON, JSON, object.to_string().into_bytes()).await
    }

    /// PATCH; the content type says which kind of patch it is.
    pub async fn patch(&self, path: &str, content_type: &str, patch: Vec<u8>) -> Result<Value, Error> {
        self.json(Method::PATCH, path, JSON, content_type, patch).await
    }

    /// DELETE with `DeleteOptions`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, Error> {
        self.json(Method::DELETE, path, JSON, JSON, options.to_string().into_bytes()).await
    }

    /// GET of an answer that is read while it comes in: a watch, a log.
    pub async fn stream(&self, path: &str, accept: &str) -> Result<impl AsyncBufRead + Send + Unpin + use<>, Error> {
        let answer = self.exchange(build(Method::GET, path, accept, JSON, Vec::new())?).await?;
        Ok(answer.into_body().into_data_stream().map_err(std::io::Error::other).into_async_read())
    }

    /// All items of a list, fetched in chunks (`limit` 0: at once).
    pub async fn list(&self, path: &str, query: &Query, limit: u32) -> Result<Value, Error> {
        self.list_as(path, query, limit, JSON).await
    }

    /// As [`Cluster::list`], of what the `Accept` header says; the rows or items of all chunks end up in the first.
    pub async fn list_as(&self, path: &str, query: &Query, limit: u32, accept: &str) -> Result<Value, Error> {
        let mut whole: Option<Value> = None;
        let mut next = String::new();
        loop {
            let mut query = query.clone();
            if limit > 0 {
                query.add("limit", &limit.to_string());
            }
            if !next.is_empty() {
                query.add("continue", &next);
            }
            let mut part = self.get_as(&format!("{path}{query}"), accept).await?;
            next = part["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => {
                    for field in ["items", "rows"] {
                        if let (Some(all), Some(more)) = (whole[field].as_array_mut(), part[field].as_array_mut()) {
                            all.append(more);
                        }
                    }
                }
            }
            if next.is_empty() {
                let mut whole = whole.unwrap_or_default();
                if let Some(metadata) = whole["metadata"].as_object_mut() {
                    metadata.remove("continue");
                    metadata.remove("remainingItemCount");
                }
                return Ok(whole);
            }
        }
    }
}

fn build(method: Method, path: &str, accept: &str, content_type: &str, body: Vec<u8>) -> Result<Request<Body>, Error> {
    let mut request = Request::builder().method(method).uri(path).header(http::header::ACCEPT, accept);
    if !body.is_empty() {
        request = request.header(http::header::CONTENT_TYPE, content_type);
    }
    request.body(Body::from(body)).map_err(|error| Error::usage(format!("invalid request {path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let query = Query::new().with("labelSelector", "a in (b,c)").with_some("x", None).with_some("y", Some("1"));
        assert_eq!(query.to_string(), "?labelSelector=a%20in%20%28b%2Cc%29&y=1");
    }
}
