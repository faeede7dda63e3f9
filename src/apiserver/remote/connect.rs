//! How a server is reached: directly or through a proxy, and with which TLS.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::{HeaderValue, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::rt::TokioIo;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower::Service;

use super::Error;
use crate::BoxError;

/// How to connect. By default: directly, by HTTPS alone, to servers that the host's authorities vouch for.
#[derive(Debug, Default)]
pub struct Connect {
    /// Whose word about the server is believed; empty: the host's authorities'.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Whoever answers is believed.
    pub unverified: bool,
    /// The name in the server's certificate, if it is not that of the URL.
    pub server_name: Option<ServerName<'static>>,
    /// Shown to who asks for it.
    pub identity: Option<Arc<dyn ResolvesClientCert>>,
    /// What is in between.
    pub proxy: Option<Proxy>,
    /// Plain HTTP is good enough where the URL says so.
    pub plain: bool,
}

/// A proxy that connections go through.
#[derive(Debug, Clone)]
pub enum Proxy {
    /// `http://[USER:PASSWORD@]HOST:PORT`, asked by CONNECT.
    Http(Uri, Option<HeaderValue>),
    /// `socks5://` or `socks5h://`; names are looked up by the proxy.
    Socks(Uri, Option<(String, String)>),
}

impl Connect {
    /// # Errors
    /// If a certificate can't be used, or there are no authorities.
    pub(super) fn connector(self) -> Result<HttpsConnector<Route>, Error> {
        let builder = ClientConfig::builder_with_provider(k3s_tls::provider()).with_safe_default_protocol_versions()?;
        let builder = if self.unverified {
            builder.dangerous().with_custom_certificate_verifier(k3s_tls::Server::by(k3s_tls::AnyServer))
        } else {
            builder.with_root_certificates(roots(&self.authorities)?)
        };
        let tls = match self.identity {
            Some(identity) => {
                let mut tls = builder.with_client_cert_resolver(identity);
                // A session that is resumed is that of the certificate before.
                tls.resumption = Resumption::disabled();
                tls
            }
            None => builder.with_no_client_auth(),
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let mut builder = if self.plain { builder.https_or_http() } else { builder.https_only() };
        if let Some(name) = self.server_name {
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        Ok(builder.enable_http1().wrap_connector(Route::through(self.proxy)))
    }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    if authorities.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::NoAuthorities);
        }
    }
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

/// What makes the TCP connection.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Direct(HttpConnector),
    Http(Tunnel<HttpConnector>),
    Socks(SocksV5<HttpConnector>),
}

impl Route {
    fn through(proxy: Option<Proxy>) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        match proxy {
            None => Self::Direct(connector),
            Some(Proxy::Http(address, credentials)) => {
                let tunnel = Tunnel::new(address, connector);
                Self::Http(match credentials {
                    Some(credentials) => tunnel.with_auth(credentials),
                    None => tunnel,
                })
            }
            Some(Proxy::Socks(address, credentials)) => {
                let socks = SocksV5::new(address, connector);
                Self::Socks(match credentials {
                    Some((user, password)) => socks.with_auth(user, password),
                    None => socks,
                })
            }
        }
    }
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(connector) => connector.poll_ready(context).map_err(Into::into),
            Self::Http(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
            Self::Socks(socks) => socks.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        match self {
            Self::Direct(connector) => connector.call(to).err_into().boxed(),
            Self::Http(tunnel) => tunnel.call(to).err_into().boxed(),
            Self::Socks(socks) => socks.call(to).err_into().boxed(),
        }
    }
}
