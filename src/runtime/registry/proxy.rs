//! Connections through a proxy, as the proxy variables say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The proxies of this process: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` in either case, each hidden by a
/// variable of the same name with the prefix `CONTAINERD_`, as k3s has it.
pub(super) fn from_environment() -> Matcher {
    from_variables(|name| std::env::var(name).ok())
}

fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Matcher {
    let value = |name: &str| {
        let names = [format!("CONTAINERD_{name}"), name.to_owned(), name.to_lowercase()];
        names.iter().find_map(|name| variable(name)).unwrap_or_default()
    };
    Matcher::builder()
        .all(value("ALL_PROXY"))
        .http(value("HTTP_PROXY"))
        .https(value("HTTPS_PROXY"))
        .no(value("NO_PROXY"))
        .build()
}

/// Connects directly, by a tunnel (HTTPS) or to the proxy that will pass requests on (HTTP).
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    proxies: Arc<Matcher>,
}

impl Connector {
    pub(super) fn new(proxies: Arc<Matcher>) -> Self {
        let mut http = HttpConnector::new();
        // The scheme of what goes over the connection is not its business.
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(super::transport::CONNECT_TIMEOUT));
        Self { http, proxies }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Stream, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (mut http, intercept) = (self.http.clone(), self.proxies.intercept(&target));
        Box::pin(async move {
            let Some(intercept) = intercept else {
                return Ok(Stream { inner: http.call(target).await?, proxied: false });
            };
            if intercept.uri().scheme_str() != Some("http") {
                let scheme = intercept.uri().scheme_str().unwrap_or("none");
                return Err(format!("proxies with the scheme {scheme} can't be used, only http").into());
            }
            if target.scheme_str() == Some("https") {
                let mut tunnel = Tunnel::new(intercept.uri().clone(), http);
                if let Some(auth) = intercept.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                return Ok(Stream { inner: tunnel.call(target).await?, proxied: false });
            }
            Ok(Stream { inner: http.call(intercept.uri().clone()).await?, proxied: true })
        })
    }
}

/// A connection that knows whether requests on it name the whole URL.
pub(super) struct Stream {
    inner: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_choose_the_proxy() {
        let matcher = from_variables(|name| match name {
            "HTTPS_PROXY" => Some("http://general:1".into()),
            "CONTAINERD_HTTPS_PROXY" => Some("http://user:word@pulls:2".into()),
            "no_proxy" => Some("10.0.0.0/8,.svc,registry.local".into()),
            _ => None,
        });
        let proxy = |url: &str| {
            let intercept = matcher.intercept(&url.parse().unwrap());
            intercept.map(|intercept| (intercept.uri().to_string(), intercept.basic_auth().is_some()))
        };
        assert_eq!(proxy("https://ghcr.io/v2"), Some(("http://pulls:2/".into(), true)));
        assert_eq!(proxy("http://ghcr.io/v2"), None);
        assert_eq!(proxy("https://registry.local/v2"), None);
        assert_eq!(proxy("https://10.1.2.3/v2"), None);
    }
}
