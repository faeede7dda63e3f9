//! Registries: what `registries.yaml` says of them, and the pull half of the OCI distribution protocol.
//!
//! ```text
//! reference ── Registries::endpoints ──► endpoints in order ── Client ──► manifests, blobs
//!                                                                │
//!                                          transport (TLS, proxies), authorization (basic, bearer)
//! ```
//!
//! Sources: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>,
//! <https://distribution.github.io/distribution/spec/auth/token/>, <https://docs.k3s.io/installation/private-registry>.

mod authorization;
mod client;
mod config;
mod download;
mod endpoint;
mod proxy;
mod transport;

pub(crate) use self::client::{Client, Manifest};
pub use self::config::{ConfigError, Registries};
pub(crate) use self::endpoint::Endpoint;

/// Why a registry did not give what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The registry has no such thing.
    #[error("{what}: not found")]
    NotFound { what: String },
    /// The registry wants to know who asks, or does not like the answer.
    #[error("pull access denied, repository does not exist or may require authorization: {detail}")]
    Unauthorized { detail: String },
    /// It answers something else.
    #[error("unexpected status from GET request to {url}: {status}{detail}")]
    Status { url: String, status: http::StatusCode, detail: String },
    /// It can't be reached, or the connection broke.
    #[error("failed to do request: Get {url:?}: {detail}")]
    Unreachable { url: String, detail: String },
    /// Its answers make no sense.
    #[error("{url}: {detail}")]
    Protocol { url: String, detail: String },
    /// A certificate or key that `registries.yaml` names can't be used.
    #[error("TLS of registry {host}: {detail}")]
    Tls { host: String, detail: String },
    /// Content and digest differ.
    #[error("{what} has the digest {found}")]
    Digest { what: String, found: String },
}

impl RegistryError {
    /// Could the same request succeed a moment later?
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == http::StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}
