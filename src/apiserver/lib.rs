//! The API server: one generic pipeline for every resource.
//!
//! A request is read into a [`request::RequestInfo`], authorized, and dispatched. Requests for resources go to one
//! function per verb (`verbs/`), which works on the resource's row ([`k3s_api::resource::Resource`]): there is no
//! handler per kind. Reads are served by the watch cache ([`registry`]) from bytes that were encoded when the object was
//! written; writes pass admission (`admission/`) and the row's hooks, and end in one compare-and-swap in the datastore.
//!
//! [`ApiServer`] is a `tower` service, so that components in the same process call it without a socket; [`serve`] puts
//! it behind TLS.

mod admission;
mod aggregator;
pub mod audit;
pub mod authentication;
pub mod authorization;
mod body;
pub mod bootstrap;
mod call;
mod config;
mod conversion;
mod custom_resources;
mod deadline;
mod discovery;
mod dispatch;
mod encode;
pub mod encryption;
mod flow_control;
mod follow;
pub mod health;
mod metrics;
mod negotiate;
mod openapi;
mod openid;
mod options;
pub mod registry;
pub mod relay;
mod remote;
pub mod request;
mod response;
pub mod serve;
mod service_addresses;
mod tokens;
mod verbs;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::Service;

use authentication::Authenticator;
use authorization::Authorizer;
pub use body::{Body, BoxError};
pub use config::Config;
use registry::Registry;
use service_addresses::ServiceAddresses;
use tokio_util::sync::CancellationToken;

/// Why the API server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the datastore: {0}")]
    Registry(#[from] registry::Error),
    #[error("cannot set up authentication: {0}")]
    Authentication(#[from] authentication::Error),
    #[error("cannot set up authorization: {0}")]
    Authorization(#[from] authorization::Error),
    #[error("cannot set up relaying to kubelets: {0}")]
    Relay(#[from] relay::Error),
    #[error("cannot set up the audit log: {0}")]
    Audit(#[from] audit::Error),
}

/// A running API server. Clones are handles to the same one.
///
/// Call it with the caller's [`k3s_api::authentication::UserInfo`] as an extension of the request; without one the
/// request is anonymous.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    registry: Arc<Registry>,
    admission: admission::Chain,
    charges: Arc<admission::resource_quota::Charges>,
    service_addresses: ServiceAddresses,
    stop: CancellationToken,
    health: health::Health,
    authenticator: Authenticator,
    authorizer: Authorizer,
    relay: relay::Relay,
    flow_control: flow_control::FlowControl,
    audit: Option<Arc<audit::Audit>>,
    aggregated: aggregator::Aggregated,
    requests: metrics::requests::Requests,
}

impl ApiServer {
    /// Opens the registry and starts to follow the datastore.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let authenticator = Authenticator::new(&config.authentication)?;
        let authorizer = Authorizer::new(&config.authorization)?;
        let registry = Arc::new(Registry::open(Arc::clone(&config.datastore), Arc::clone(&config.encryption)).await?);
        service_addresses::repair(&registry).await?;
        let charges = Arc::default();
        let inner = Inner {
            admission: admission::Chain::new(&charges),
            charges,
            service_addresses: ServiceAddresses::new(&config.service_cidrs, config.node_ports.clone()),
            stop: CancellationToken::new(),
            health: health::Health::default(),
            authenticator,
            authorizer,
            relay: relay::Relay::new(&config.relay)?,
            audit: config.audit.as_ref().map(audit::Audit::open).transpose()?.map(Arc::new),
            aggregated: aggregator::Aggregated::default(),
            requests: metrics::requests::Requests::default(),
            flow_control: flow_control::FlowControl::new(config.seats, config.request_timeout / 4),
            config,
            registry,
        };
        let inner = Arc::new(inner);
        tokio::spawn(custom_resources::run(Arc::downgrade(&inner)));
        tokio::spawn(flow_control::run(Arc::downgrade(&inner)));
        tokio::spawn(aggregator::availability::run(Arc::downgrade(&inner)));
        if let authorization::Config::File { path, reload } = inner.config.authorization.clone() {
            tokio::spawn(authorization::follow::run(Arc::downgrade(&inner), path, reload));
        }
        if inner.config.check_policies {
            tokio::spawn(admission::policy::type_checking::run(Arc::downgrade(&inner)));
        }
        if inner.config.count_quotas {
            tokio::spawn(admission::resource_quota::recount::run(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// The stored objects, for what runs inside the API server.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) fn shared_registry(&self) -> Arc<Registry> {
        Arc::clone(&self.inner.registry)
    }

    pub(crate) fn admission(&self) -> &admission::Chain {
        &self.inner.admission
    }

    pub(crate) fn charges(&self) -> &admission::resource_quota::Charges {
        &self.inner.charges
    }

    pub(crate) fn service_addresses(&self) -> &ServiceAddresses {
        &self.inner.service_addresses
    }

    /// What `/readyz` answers from.
    pub fn health(&self) -> &health::Health {
        &self.inner.health
    }

    /// Ends all watches. What is being answered is answered.
    pub fn stop(&self) {
        self.inner.stop.cancel();
    }

    /// Completes when [`ApiServer::stop`] has been called.
    pub async fn stopped(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Waits, not for long, until the audit log has what it was told: for the end, when nothing is answered any more.
    pub async fn close_audit(&self) {
        if let Some(audit) = self.audit() {
            audit.close().await;
        }
    }

    /// Who makes a request.
    pub fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// What is counted of requests.
    pub(crate) fn requests(&self) -> &metrics::requests::Requests {
        &self.inner.requests
    }

    /// What other servers serve.
    pub(crate) fn aggregated(&self) -> &aggregator::Aggregated {
        &self.inner.aggregated
    }

    /// The audit log, if there is one.
    pub(crate) fn audit(&self) -> Option<&Arc<audit::Audit>> {
        self.inner.audit.as_ref()
    }

    /// Reads the audit policy anew, if there is one.
    ///
    /// # Errors
    /// If it can't be used; the one before stays in force.
    pub fn reload_audit_policy(&self) -> Result<(), audit::policy::Error> {
        self.audit().map_or(Ok(()), |audit| audit.reload_policy())
    }

    /// Says which requests wait.
    pub(crate) fn flow_control(&self) -> &flow_control::FlowControl {
        &self.inner.flow_control
    }

    /// Connects clients with kubelets, pods and services.
    pub(crate) fn relay(&self) -> &relay::Relay {
        &self.inner.relay
    }

    /// Who may do what.
    pub fn authorizer(&self) -> &Authorizer {
        &self.inner.authorizer
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
}

impl<B> Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        dispatch::handle(server, request).map(Ok).boxed()
    }
}
