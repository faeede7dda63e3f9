//! Requests that are answered elsewhere: a pod's log, exec, attach and port-forward by the kubelet of its node, and
//! `proxy` by a node, a pod or a service.
//!
//! Upgrades (WebSocket, SPDY) are tunnelled byte for byte: this server has no part in the protocols spoken inside.

pub(crate) mod aggregated;
mod connect;
mod dial;
mod forward;
mod log;
pub(crate) mod outside;
mod proxy;
pub(crate) mod review_version;
mod stream;
mod target;
mod trust;
pub(crate) mod webhook;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use dial::{Connection, Dialer, Direct};

use crate::audit::Record;
use crate::authorization::Attributes;
use crate::request::{Query, RequestInfo};
use crate::{ApiServer, Body, BoxError, response};

/// How kubelets are reached.
#[derive(Clone)]
pub struct Config {
    /// `--kubelet-client-certificate` and `--kubelet-client-key`: who this server is to kubelets.
    pub kubelet_client: Option<ClientCertificate>,
    /// `--proxy-client-certificate` and `--proxy-client-key`: who this server is to aggregated API servers and webhooks.
    pub front_proxy: Option<ClientCertificate>,
    /// `--kubelet-certificate-authority`: who signs the kubelets' serving certificates.
    pub kubelet_ca: Vec<CertificateDer<'static>>,
    /// Connects to nodes and pods; [`Direct`], unless agents can only be reached through a tunnel of theirs.
    pub dialer: Arc<dyn Dialer>,
}

impl Default for Config {
    /// Direct connections; without certificates no kubelet will be trusted.
    fn default() -> Self {
        Self { kubelet_client: None, front_proxy: None, kubelet_ca: Vec::new(), dialer: Arc::new(Direct) }
    }
}

/// A certificate, followed by those that lead to its authority, and its key.
#[derive(Clone)]
pub struct ClientCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Why relaying could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificates or the key cannot be used.
    #[error("cannot use the kubelet client certificate or the kubelet CA: {0}")]
    Tls(#[from] rustls::Error),
}

/// Connects clients with what answers them.
pub struct Relay {
    dialer: Arc<dyn Dialer>,
    kubelets: Arc<rustls::ClientConfig>,
    /// For `https` backends of `proxy`, whose certificates nobody here can judge.
    unverified: Arc<rustls::ClientConfig>,
    /// As that, for servers that are told who this one is.
    unverified_front_proxy: Arc<rustls::ClientConfig>,
    front_proxy: Option<ClientCertificate>,
    /// Ends the tunnels with the server.
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Relay {
    /// Sets up the TLS clients.
    ///
    /// # Errors
    /// If a certificate or the key cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        Ok(Self {
            dialer: Arc::clone(&config.dialer),
            kubelets: dial::kubelet_tls(config)?,
            unverified: dial::unverified_tls(None)?,
            unverified_front_proxy: dial::unverified_tls(config.front_proxy.as_ref())?,
            front_proxy: config.front_proxy.clone(),
            _guard: stop.clone().drop_guard(),
            stop,
        })
    }
}

/// Whether a subresource is answered elsewhere.
pub(crate) fn is_relayed(info: &RequestInfo) -> bool {
    info.group.is_empty()
        && matches!(
            (info.resource.as_str(), info.subresource.as_str()),
            ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("nodes" | "services", "proxy")
        )
}

/// Answers a request for which [`is_relayed`] says so, and which has been authorized.
pub(crate) async fn handle<B>(
    server: &ApiServer,
    request: Request<B>,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    audit: Option<&Record>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let relayed = async {
        // A log is only read.
        if info.subresource == "log" {
            return log::log(server, info, query).await;
        }
        let streams = info.subresource != "proxy";
        if streams {
            may_create(server, info, user).await?;
            stream::check_ports(query)?;
        }
        let options = connect::admit(server, info, query, user, audit).await?;
        let mut answer = match streams {
            true => stream::stream(server, request, info, &options).await?,
            false => proxy::proxy(server, request, info, &options).await?,
        };
        response::add_warnings(&mut answer, &options.warnings);
        Ok(answer)
    };
    relayed.await.unwrap_or_else(|status| response::status(&status))
}

/// WebSockets are opened by GET; running a command in a pod takes more than the permission to get.
async fn may_create(server: &ApiServer, info: &RequestInfo, user: &UserInfo) -> Result<(), Status> {
    if info.verb != "get" {
        return Ok(());
    }
    let asked = Attributes { verb: "create", ..Attributes::from(info) };
    server.authorizer().require(server.registry(), user, asked).await
}
