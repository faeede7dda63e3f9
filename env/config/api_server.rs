//! What `--kube-apiserver-arg` says.

mod audit;
mod authorization;

use std::path::PathBuf;
use std::time::Duration;

use crate::flag::types;
use crate::{Error, Values};

pub use audit::{AuditArguments, AuditWebhookArguments, TruncateArguments};
pub use authorization::{AuthorizationArguments, AuthorizationMode, AuthorizationWebhookArguments};

/// Flags of the API server. What is not given is left to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiServerArguments {
    /// CSV of tokens, users, uids and groups.
    pub token_auth_file: Option<PathBuf>,
    /// The first one issues tokens; all are accepted. None: k3s's.
    pub service_account_issuers: Vec<String>,
    /// PEM files with keys that tokens may be signed with, besides the server's own.
    pub service_account_key_files: Vec<PathBuf>,
    /// None: k3s's.
    pub audiences: Vec<String>,
    /// The `EncryptionConfiguration`, instead of the one that `--secrets-encryption` makes.
    pub encryption_provider_config: Option<PathBuf>,
    /// Whether its changes take effect while the server runs.
    pub reload_encryption: bool,
    pub max_requests_inflight: Option<u32>,
    pub max_mutating_requests_inflight: Option<u32>,
    pub request_timeout: Option<Duration>,
    pub audit: AuditArguments,
    pub authorization: AuthorizationArguments,
    pub oidc: Option<OidcArguments>,
    pub token_webhook: Option<TokenWebhookArguments>,
}

/// Flags of the OpenID provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OidcArguments {
    pub issuer_url: String,
    pub client_id: String,
    pub username_claim: Option<String>,
    pub username_prefix: Option<String>,
    pub groups_claim: Option<String>,
    pub groups_prefix: Option<String>,
    /// Name and value.
    pub required_claims: Vec<(String, String)>,
    pub signing_algorithms: Vec<String>,
    pub ca_file: Option<PathBuf>,
}

/// Flags of the server that judges tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenWebhookArguments {
    pub config_file: PathBuf,
    pub cache_ttl: Option<Duration>,
    pub version: Option<String>,
}

const FLAG: &str = "kube-apiserver-arg";

impl ApiServerArguments {
    /// From `--kube-apiserver-arg`.
    ///
    /// # Errors
    /// A value that can't be read.
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let given = |name: &str| values.arguments(FLAG, name);
        let number = |name: &str| values.argument(FLAG, name, types::number);
        let audiences = given("api-audiences").pop().unwrap_or_default();
        Ok(Self {
            token_auth_file: path(values, "token-auth-file"),
            service_account_issuers: given("service-account-issuer"),
            service_account_key_files: given("service-account-key-file").into_iter().map(PathBuf::from).collect(),
            audiences: list(&audiences),
            encryption_provider_config: path(values, "encryption-provider-config"),
            reload_encryption: switch(values, "encryption-provider-config-automatic-reload")?.unwrap_or(false),
            max_requests_inflight: number("max-requests-inflight")?,
            max_mutating_requests_inflight: number("max-mutating-requests-inflight")?,
            request_timeout: values.argument(FLAG, "request-timeout", types::duration)?,
            audit: AuditArguments::from_values(values)?,
            authorization: AuthorizationArguments::from_values(values)?,
            oidc: OidcArguments::from_values(values)?,
            token_webhook: TokenWebhookArguments::from_values(values)?,
        })
    }
}

impl OidcArguments {
    fn from_values(values: &Values) -> Result<Option<Self>, Error> {
        let text = |name: &str| values.arguments(FLAG, name).pop();
        let claim = |text: String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(values.bad(FLAG, format!("oidc-required-claim: {text:?} is not name=value"))),
        };
        let oidc = Self {
            issuer_url: text("oidc-issuer-url").unwrap_or_default(),
            client_id: text("oidc-client-id").unwrap_or_default(),
            username_claim: text("oidc-username-claim"),
            username_prefix: text("oidc-username-prefix"),
            groups_claim: text("oidc-groups-claim"),
            groups_prefix: text("oidc-groups-prefix"),
            required_claims: values
                .arguments(FLAG, "oidc-required-claim")
                .into_iter()
                .map(claim)
                .collect::<Result<_, _>>()?,
            signing_algorithms: list(&text("oidc-signing-algs").unwrap_or_default()),
            ca_file: path(values, "oidc-ca-file"),
        };
        match (oidc.issuer_url.is_empty(), oidc.client_id.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(oidc)),
            _ => Err(values.bad(FLAG, "oidc-issuer-url and oidc-client-id take each other")),
        }
    }
}

impl TokenWebhookArguments {
    fn from_values(values: &Values) -> Result<Option<Self>, Error> {
        let Some(config_file) = path(values, "authentication-token-webhook-config-file") else { return Ok(None) };
        let cache_ttl = values.argument(FLAG, "authentication-token-webhook-cache-ttl", types::duration)?;
        let version = one_of(values, "authentication-token-webhook-version", &["v1", "v1beta1"])?;
        Ok(Some(Self { config_file, cache_ttl, version }))
    }
}

fn path(values: &Values, name: &str) -> Option<PathBuf> {
    values.arguments(FLAG, name).pop().filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn switch(values: &Values, name: &str) -> Result<Option<bool>, Error> {
    values.argument(FLAG, name, types::boolean)
}

fn one_of(values: &Values, name: &str, known: &[&str]) -> Result<Option<String>, Error> {
    let check = |text: &str| match known.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("it is one of {}", known.join(", "))),
    };
    values.argument(FLAG, name, check)
}
