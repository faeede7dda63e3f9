//! The cluster's DNS server: names of services and pods by the Kubernetes DNS specification 1.1.0, everything else from
//! the node's resolvers.
//!
//! It runs as `k3s coredns` in a pod and is named, labelled and addressed as CoreDNS is on k3s. Source:
//! <https://github.com/kubernetes/dns/blob/master/docs/specification.md>.

mod handler;
mod health;
mod manifest;
mod records;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hickory_server::Server;
use k3s_client::Informers;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

pub use manifest::{IMAGE, MANIFEST_NAME, manifest};

/// How `k3s coredns` is told to run.
#[derive(Debug, Clone)]
pub struct Config {
    pub cluster_domain: String,
    /// Port for DNS over UDP and TCP.
    pub dns: SocketAddr,
    /// `/health` answers here once the process runs.
    pub health: SocketAddr,
    /// `/ready` answers here once the records are complete.
    pub ready: SocketAddr,
    /// File with the resolvers for other names.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// CoreDNS' own ports.
    pub fn new(cluster_domain: &str) -> Self {
        let any = |port| SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port);
        Self {
            cluster_domain: cluster_domain.to_owned(),
            dns: any(53),
            health: any(8080),
            ready: any(8181),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// Why the DNS server could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot read resolvers from {path}: {detail}", path = path.display())]
    Resolvers { path: PathBuf, detail: String },
    #[error("cluster domain {domain:?} is not a domain name: {detail}")]
    Domain { domain: String, detail: String },
    #[error("DNS server ended: {0}")]
    Serve(String),
}

/// A TCP client has to ask within this time.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const TCP_RESPONSES: usize = 16;

/// Serves until cancelled.
///
/// # Errors
/// An address that is taken, a bad domain, resolvers that can't be read.
pub fn run(config: Config, informers: Informers, cancel: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed so that the server is compiled with this crate, not with each program that runs it.
    Box::pin(serve(config, informers, cancel))
}

async fn serve(config: Config, informers: Informers, cancel: CancellationToken) -> Result<(), Error> {
    let records = records::Records::follow(&informers, cancel.clone());
    let handler = handler::Handler::new(&config, records.clone())?;
    let listen = |source| Error::Listen { address: config.dns, source };
    let udp = UdpSocket::bind(config.dns).await.map_err(listen)?;
    let tcp = TcpListener::bind(config.dns).await.map_err(listen)?;
    let health = bind(config.health).await?;
    let ready = bind(config.ready).await?;
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_TIMEOUT, TCP_RESPONSES);
    tracing::info!(address = %config.dns, domain = config.cluster_domain, "serving DNS");
    let always = Arc::new(|| true);
    let complete = Arc::new(move || records.is_complete());
    tokio::select! {
        () = cancel.cancelled() => {
            server.shutdown_gracefully().await.map_err(|error| Error::Serve(error.to_string()))
        }
        result = server.block_until_done() => result.map_err(|error| Error::Serve(error.to_string())),
        () = health::serve(health, "/health", always) => Ok(()),
        () = health::serve(ready, "/ready", complete) => Ok(()),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// The resolvers of a resolv.conf.
fn resolvers(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Resolvers { path: path.to_owned(), detail: error.to_string() })
}
