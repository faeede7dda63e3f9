//! What `--kube-apiserver-arg` changes in the API server's configuration.

use std::path::Path;

use anyhow::Context as _;
use k3s_apiserver::Config;
use k3s_apiserver::authentication::{oidc, webhook};
use k3s_env::{ApiServerArguments, AuditArguments, OidcArguments, TokenWebhookArguments};

use super::control_plane::certificates;

/// Takes all of it over.
///
/// # Errors
/// If a file that is named can't be read.
pub fn apply(given: &ApiServerArguments, api: &mut Config) -> anyhow::Result<()> {
    let authentication = &mut api.authentication;
    authentication.token_file = given.token_auth_file.clone();
    authentication.service_account_issuers = given.service_account_issuers.clone();
    authentication.audiences = given.audiences.clone();
    for file in &given.service_account_key_files {
        authentication.service_account_keys.extend(read(file, "service account keys")?);
    }
    authentication.oidc = given.oidc.as_ref().map(oidc).transpose()?;
    authentication.token_webhook = given.token_webhook.as_ref().map(token_webhook);
    let requests = given.max_requests_inflight.unwrap_or(400);
    api.seats = requests.saturating_add(given.max_mutating_requests_inflight.unwrap_or(200));
    api.request_timeout = given.request_timeout.unwrap_or(api.request_timeout);
    api.audit = audit(&given.audit)?;
    Ok(())
}

fn read(file: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {what} {}", file.display()))
}

fn oidc(given: &OidcArguments) -> anyhow::Result<oidc::Options> {
    let authorities = match &given.ca_file {
        Some(file) => certificates(&String::from_utf8_lossy(&read(file, "the OpenID provider's authorities")?))
            .with_context(|| format!("cannot use the certificates in {}", file.display()))?,
        None => Vec::new(),
    };
    Ok(oidc::Options {
        issuer_url: given.issuer_url.clone(),
        client_id: given.client_id.clone(),
        username_claim: given.username_claim.clone().unwrap_or_default(),
        username_prefix: given.username_prefix.clone(),
        groups_claim: given.groups_claim.clone().unwrap_or_default(),
        groups_prefix: given.groups_prefix.clone().unwrap_or_default(),
        required_claims: given.required_claims.clone(),
        signing_algorithms: given.signing_algorithms.clone(),
        authorities,
    })
}

fn token_webhook(given: &TokenWebhookArguments) -> webhook::Options {
    let mut options = webhook::Options::new(&given.config_file);
    options.cache_ttl = given.cache_ttl.unwrap_or(options.cache_ttl);
    if let Some(version) = &given.version {
        options.version = version.clone();
    }
    options
}

/// The audit log that the flags ask for.
fn audit(given: &AuditArguments) -> anyhow::Result<Option<k3s_apiserver::audit::Config>> {
    let (Some(policy), Some(path)) = (&given.policy_file, &given.log_path) else { return Ok(None) };
    let mut log = k3s_apiserver::audit::log::Options::new(path);
    log.max_size = given.max_size.unwrap_or_default().into();
    log.max_backups = usize::try_from(given.max_backups.unwrap_or_default())?;
    log.max_age = given.max_age.unwrap_or_default();
    log.compress = given.compress.unwrap_or_default();
    if let Some(format) = &given.format {
        log.format = format.parse()?;
    }
    if let Some(mode) = &given.mode {
        log.mode = mode.parse()?;
    }
    if let Some(buffer) = given.buffer {
        log.buffer = usize::try_from(buffer)?;
    }
    Ok(Some(k3s_apiserver::audit::Config { policy_file: policy.clone(), log }))
}
