//! Connections to kubelets, pods and endpoints, with or without TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::client::WantsClientCert;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ClientCertificate, Config, Error, Relay};

/// A connection, whatever it goes over.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Connects to what is on a node.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// A connection to `address`, which is the kubelet of `node` or a pod on it. `node` is empty where it is not known.
    async fn connect(&self, node: &str, address: SocketAddr) -> io::Result<Box<dyn Connection>>;
}

/// Connects by TCP from here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

/// As long as kube-apiserver waits.
const CONNECT: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(10);

#[async_trait]
impl Dialer for Direct {
    async fn connect(&self, _: &str, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(|_| timed_out("i/o timeout"))??;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// What is spoken at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    /// TLS with a certificate that nobody checks.
    Https,
    /// TLS with the kubelet of that node, whose certificate must have its name.
    Kubelet,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub scheme: Scheme,
    pub node: String,
    pub address: SocketAddr,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl Relay {
    /// Connects. Errors read as Go's, which people search for: `dial tcp 10.0.0.1:10250: connect: connection refused`.
    pub(super) async fn connect(&self, backend: &Backend) -> Result<Box<dyn Connection>, String> {
        let address = backend.address;
        let stream = self.dialer.connect(&backend.node, address).await.map_err(|error| dial_error(address, &error))?;
        let by_address = ServerName::IpAddress(address.ip().into());
        let (config, name) = match backend.scheme {
            Scheme::Http => return Ok(stream),
            Scheme::Https => (&self.unverified, by_address),
            // A node's certificate has its name; its addresses may change.
            Scheme::Kubelet => (&self.kubelets, ServerName::try_from(backend.node.clone()).unwrap_or(by_address)),
        };
        let connector = TlsConnector::from(Arc::clone(config));
        match timeout(HANDSHAKE, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(format!("tls: failed to verify or connect to {address}: {error}")),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
        }
    }
}

pub(super) fn dial_error(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {address}: connect: network is unreachable"),
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// TLS as the API server towards kubelets.
pub(super) fn kubelet_tls(config: &Config) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in &config.kubelet_ca {
        roots.add(authority.clone())?;
    }
    tls(roots, config.kubelet_client.as_ref())
}

/// TLS that trusts those authorities, and proves who it is if a server asks.
pub(super) fn tls(roots: RootCertStore, client: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    with_client(builder, client)
}

/// TLS that accepts any certificate, as Kubernetes' proxy does, for pods sign their own; and proves who it is if a
/// server asks.
pub(super) fn unverified_tls(client: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(k3s_tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(k3s_tls::Server::by(k3s_tls::AnyServer));
    with_client(builder, client)
}

fn with_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    client: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, Error> {
    let tls = match client {
        Some(client) => builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(tls))
}
