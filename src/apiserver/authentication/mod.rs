//! Who makes a request: the front proxy's headers, a client certificate, or a bearer token, in Kubernetes' order. There
//! are no anonymous requests, as in k3s: whoever shows nothing, or nothing that is good, gets 401.
//!
//! [`Authenticated`] is the API server as the network sees it; requests inside the process carry their
//! [`UserInfo`] with them.

mod bootstrap_token;
pub mod impersonation;
pub mod jwt;
pub mod oidc;
mod request_header;
pub mod service_account;
#[cfg(test)]
pub(crate) mod test_keys;
mod token_file;
mod verified;
pub mod webhook;
mod x509;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use parking_lot::RwLock;
use rustls::DistinguishedName;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tower::Service;

use impersonation::Impersonated;
use oidc::Oidc;
pub use request_header::RequestHeader;
pub use service_account::ServiceAccounts;
pub use token_file::TokenFile;
use webhook::Webhook;
pub(crate) use x509::Certified;
pub use x509::ClientCa;

use crate::audit::policy::Stage;
use crate::audit::{self, Asked};
use crate::registry::{self, Registry};
use crate::request::{Query, RequestInfo};
use crate::serve::Peer;
use crate::{ApiServer, Body, BoxError, response};

/// Every authenticated user is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The user who has shown nothing.
pub const ANONYMOUS: &str = "system:anonymous";
/// The `extra` that says by which token or certificate a user came.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why authentication could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Certificates(#[from] x509::Error),
    #[error(transparent)]
    TokenFile(#[from] token_file::Error),
    #[error("cannot use the service account keys: {0}")]
    Keys(#[from] jwt::Error),
    #[error(transparent)]
    Oidc(#[from] oidc::Error),
    #[error(transparent)]
    Webhook(#[from] webhook::Error),
}

/// By what means users may prove who they are. What is empty is not possible.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `--client-ca-file`: the CAs that sign client certificates.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// `--requestheader-client-ca-file`: the CAs that sign the certificates of authenticating front proxies.
    pub request_header_ca: Vec<CertificateDer<'static>>,
    /// `--requestheader-allowed-names`; empty: any.
    pub request_header_names: Vec<String>,
    /// `--token-auth-file`.
    pub token_file: Option<PathBuf>,
    /// `--service-account-signing-key-file`: PEM.
    pub service_account_signing_key: Option<Vec<u8>>,
    /// `--service-account-key-file`: PEM, public or private keys that are accepted besides the signing key.
    pub service_account_keys: Vec<u8>,
    /// `--service-account-issuer`; empty: k3s's.
    pub service_account_issuers: Vec<String>,
    /// `--api-audiences`; empty: k3s's.
    pub audiences: Vec<String>,
    /// `--oidc-*`.
    pub oidc: Option<oidc::Options>,
    /// `--authentication-token-webhook-*`.
    pub token_webhook: Option<webhook::Options>,
}

/// k3s's issuer of service account tokens, and the first of its audiences.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What tokens are bound to, looked up in the API server's own caches.
#[async_trait]
pub trait Objects: Send + Sync {
    /// An object of the core group by its plural resource name; `namespace` is empty for nodes.
    async fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, registry::Error>;
}

#[async_trait]
impl Objects for Registry {
    async fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, registry::Error> {
        // Where Kubernetes has always kept nodes.
        let resource = if resource == "nodes" { "minions" } else { resource };
        let cache = self.cache_of_prefix(&format!("/registry/{resource}/")).await?;
        let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
        cache.get(&key).map(|entry| entry.value()).transpose()
    }
}

/// Why a token is not accepted, when it was recognized.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    ServiceAccount(#[from] service_account::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Oidc(#[from] oidc::Error),
    #[error(transparent)]
    Webhook(#[from] webhook::Error),
    #[error("invalid bearer token")]
    Unknown,
}

/// Finds out who makes a request.
#[derive(Debug, Default)]
pub struct Authenticator {
    client_ca: Option<ClientCa>,
    request_header: Option<RequestHeader>,
    token_file: Option<PathBuf>,
    tokens: RwLock<TokenFile>,
    service_accounts: Option<ServiceAccounts>,
    oidc: Option<Oidc>,
    webhook: Option<Webhook>,
}

impl Authenticator {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// If a certificate, key or file cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let client_ca = match config.client_ca.as_slice() {
            [] => None,
            authorities => Some(ClientCa::new("the client CA", authorities)?),
        };
        let request_header = match config.request_header_ca.as_slice() {
            [] => None,
            authorities => Some(RequestHeader::new(authorities, config.request_header_names.clone())?),
        };
        let tokens = config.token_file.as_deref().map(TokenFile::read).transpose()?.unwrap_or_default();
        let service_accounts = match &config.service_account_signing_key {
            None => None,
            Some(pem) => {
                let signer = jwt::SigningKey::from_pem(pem)?;
                let keys = match config.service_account_keys.as_slice() {
                    [] => Vec::new(),
                    pem => jwt::PublicKey::all_from_pem(pem)?,
                };
                let or = |given: &[String], default: &[&str]| match given {
                    [] => default.iter().copied().map(str::to_owned).collect(),
                    given => given.to_vec(),
                };
                let issuers = or(&config.service_account_issuers, &[ISSUER]);
                let audiences = or(&config.audiences, &[&issuers[0], "k3s"]);
                Some(ServiceAccounts::new(issuers, audiences, signer, keys))
            }
        };
        let oidc = config.oidc.clone().map(Oidc::new).transpose()?;
        let webhook = config.token_webhook.clone().map(Webhook::new).transpose()?;
        let (token_file, tokens) = (config.token_file.clone(), RwLock::new(tokens));
        Ok(Self { client_ca, request_header, token_file, tokens, service_accounts, oidc, webhook })
    }

    /// Reads the token file anew, if there is one. Kubernetes takes a restart for it.
    ///
    /// # Errors
    /// If it can't be used; the tokens before stay in force.
    pub fn reload_tokens(&self) -> Result<(), Error> {
        if let Some(path) = &self.token_file {
            let tokens = TokenFile::read(path)?;
            *self.tokens.write() = tokens;
        }
        Ok(())
    }

    /// The service accounts' tokens; `None` when no signing key was configured.
    pub fn service_accounts(&self) -> Option<&ServiceAccounts> {
        self.service_accounts.as_ref()
    }

    /// The subjects of the CAs whose certificates clients may show: for [`crate::serve::tls`].
    pub fn client_ca_names(&self) -> Vec<DistinguishedName> {
        let front = self.request_header.as_ref().map(|header| header.ca().names()).unwrap_or_default();
        self.client_ca.as_ref().map(ClientCa::names).into_iter().flatten().chain(front).collect()
    }

    /// The user who makes a request, with the group that all authenticated users are in; `None`: 401.
    pub async fn request(&self, peer: Option<&Peer>, headers: &HeaderMap, objects: &dyn Objects) -> Option<UserInfo> {
        let mut user = self.identify(peer, headers, objects).await?;
        if user.name != ANONYMOUS && !user.groups.iter().any(|group| group == AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        Some(user)
    }

    async fn identify(&self, peer: Option<&Peer>, headers: &HeaderMap, objects: &dyn Objects) -> Option<UserInfo> {
        let certificates = peer.map(Peer::certificates).unwrap_or_default();
        if !certificates.is_empty() {
            if let Some(user) = self.request_header.as_ref().and_then(|header| header.user(certificates, headers)) {
                return Some(user);
            }
            match peer.and_then(|peer| self.certified(peer)) {
                Some(Ok(user)) => return Some(user),
                Some(Err(error)) => tracing::debug!(%error, "client certificate refused"),
                None => {}
            }
        }
        let token = bearer(headers)?;
        match self.token(&token, &[], objects).await {
            Ok(accepted) => Some(accepted.user),
            Err(error) => {
                tracing::debug!(%error, "bearer token refused");
                None
            }
        }
    }

    /// Whom the peer's certificates name; `None` if there is no CA for them. That is found out once a connection.
    fn certified(&self, peer: &Peer) -> Option<Result<UserInfo, x509::Error>> {
        let ca = self.client_ca.as_ref()?;
        if let Some(known) = peer.certified().get()
            && known.is_valid()
        {
            return Some(Ok(known.user.clone()));
        }
        Some(ca.certify(peer.certificates()).map(|certified| peer.certified().get_or_init(|| certified).user.clone()))
    }

    /// Whose token it is, if it is good for one of `audiences` (empty: the API server's own).
    ///
    /// # Errors
    /// If it is not.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
    ) -> Result<service_account::Accepted, TokenError> {
        if let Some(accounts) = self.service_accounts.as_ref().filter(|accounts| accounts.is_ours(token)) {
            return Ok(accounts.check(token, audiences, objects).await?);
        }
        // These know nothing of audiences and are for the API server.
        let own = self.service_accounts.as_ref().map(ServiceAccounts::audiences).unwrap_or_default();
        let wanted = if audiences.is_empty() { own } else { audiences };
        let audiences: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
        if audiences.is_empty() && !wanted.is_empty() {
            return Err(TokenError::Unknown);
        }
        if let Some(user) = self.tokens.read().user(token).cloned() {
            return Ok(service_account::Accepted { user, audiences });
        }
        if let Some(user) = bootstrap_token::user(token, objects).await? {
            return Ok(service_account::Accepted { user, audiences });
        }
        if let Some(oidc) = self.oidc.as_ref().filter(|oidc| oidc.is_ours(token)) {
            return Ok(service_account::Accepted { user: oidc.user(token).await?, audiences });
        }
        match &self.webhook {
            Some(webhook) => webhook.user(token, wanted).await?.ok_or(TokenError::Unknown),
            None => Err(TokenError::Unknown),
        }
    }
}

/// The bearer token of a request: of the `Authorization` header, or, as browsers can't set that for WebSockets, of the
/// subprotocol `base64url.bearer.authorization.k8s.io.TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let protocols = headers.get_all("sec-websocket-protocol").iter().filter_map(|value| value.to_str().ok());
    let encoded = protocols
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_BEARER))?;
    let token = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, encoded).ok()?;
    String::from_utf8(token).ok()
}

/// The subprotocol that carries a token; see [`bearer`].
pub(crate) const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Who makes a request as somebody else; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Impersonator {
    pub own: UserInfo,
    /// See [`impersonation::Impersonated`].
    pub constraint: Option<&'static str>,
}

/// Answers a request that comes no further, and tells the audit log.
async fn refuse(
    server: &ApiServer,
    request: &http::request::Parts,
    user: &UserInfo,
    stage: Stage,
    status: &Status,
) -> Response<Body> {
    let id = audit::id(&request.headers);
    if let Some(audit) = server.audit() {
        let query = Query::parse(request.uri.query().unwrap_or_default());
        let info = RequestInfo::new(&request.method, request.uri.path(), &query);
        let asked = Asked {
            uri: &request.uri,
            headers: &request.headers,
            remote: request.extensions.get::<Peer>().map(|peer| peer.remote().ip()),
            info: &info,
            user,
            impersonated: None,
            constraint: None,
        };
        audit.refused(&id, &asked, stage, status).await;
    }
    let mut response = response::status(status);
    audit::label(&mut response, &id);
    response
}

/// The API server for requests from the network: authenticates, then impersonates, then calls it.
#[derive(Clone)]
pub struct Authenticated(ApiServer);

impl Authenticated {
    /// `server` behind authentication.
    pub fn new(server: ApiServer) -> Self {
        Self(server)
    }

    async fn answer<B>(self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let peer = request.extensions().get::<Peer>().cloned();
        let server = self.0;
        let user = server.authenticator().request(peer.as_ref(), request.headers(), server.registry()).await;
        let Some(user) = user else {
            let nobody = UserInfo::default();
            let (head, _) = request.into_parts();
            return refuse(&server, &head, &nobody, Stage::ResponseStarted, &Status::unauthorized()).await;
        };
        // No one behind this server may see the credential.
        request.headers_mut().remove(AUTHORIZATION);
        let (mut head, body) = request.into_parts();
        match impersonation::apply(server.authorizer(), server.registry(), &user, &mut head).await {
            Ok(impersonated) => {
                let acting = match impersonated {
                    None => user,
                    Some(Impersonated { user: wanted, constraint }) => {
                        head.extensions.insert(Impersonator { own: user, constraint });
                        wanted
                    }
                };
                head.extensions.insert(acting);
                let Ok(response) = { server }.call(Request::from_parts(head, body)).await;
                response
            }
            Err(status) => refuse(&server, &head, &user, Stage::ResponseComplete, &status).await,
        }
    }
}

impl<B> Service<Request<B>> for Authenticated
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
        self.clone().answer(request).map(Ok).boxed()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_in_the_header_or_as_a_websocket_protocol() {
        let header = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
        };
        assert_eq!(bearer(&header("authorization", "Bearer abc")).as_deref(), Some("abc"));
        assert_eq!(bearer(&header("authorization", "bearer  abc ")).as_deref(), Some("abc"));
        assert_eq!(bearer(&header("authorization", "Basic abc")), None);
        let protocol = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(bearer(&header("sec-websocket-protocol", protocol)).as_deref(), Some("abc"));
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
