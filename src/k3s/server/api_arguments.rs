//! What `--kube-apiserver-arg` changes in the API server's configuration.

use std::path::Path;

use anyhow::Context as _;
use k3s_apiserver::authentication::{oidc, webhook};
use k3s_apiserver::{Config, audit, authorization};
use k3s_env::{
    ApiServerArguments, AuditArguments, AuditWebhookArguments, AuthorizationArguments, AuthorizationMode,
    OidcArguments, TokenWebhookArguments, TruncateArguments,
};

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
    api.audit = self::audit(&given.audit)?;
    api.authorization = self::authorization(&given.authorization);
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

/// Who is asked what users may do.
fn authorization(given: &AuthorizationArguments) -> authorization::Config {
    let mode = |mode: &AuthorizationMode| match mode {
        AuthorizationMode::Node => authorization::Mode::Node,
        AuthorizationMode::Rbac => authorization::Mode::Rbac,
        AuthorizationMode::AlwaysAllow => authorization::Mode::AlwaysAllow,
        AuthorizationMode::AlwaysDeny => authorization::Mode::AlwaysDeny,
        AuthorizationMode::Webhook(given) => {
            let mut options = authorization::webhook::Options::new(&given.config_file);
            options.authorized_ttl = given.authorized_ttl.unwrap_or(options.authorized_ttl);
            options.unauthorized_ttl = given.unauthorized_ttl.unwrap_or(options.unauthorized_ttl);
            options.version = given.version.clone().unwrap_or(options.version);
            authorization::Mode::Webhook(options)
        }
    };
    match given {
        AuthorizationArguments::Modes(modes) => authorization::Config::Modes(modes.iter().map(mode).collect()),
        AuthorizationArguments::File(path) => authorization::Config::file(path),
    }
}

/// The audit log that the flags ask for.
fn audit(given: &AuditArguments) -> anyhow::Result<Option<audit::Config>> {
    let Some(policy) = &given.policy_file else { return Ok(None) };
    let log = given.log_path.as_ref().map(|path| audit_log(given, path)).transpose()?;
    let webhook = given.webhook.as_ref().map(audit_webhook).transpose()?;
    Ok(Some(audit::Config { policy_file: policy.clone(), log, webhook }))
}

fn audit_log(given: &AuditArguments, path: &Path) -> anyhow::Result<audit::log::Options> {
    let mut log = audit::log::Options::new(path);
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
    log.truncate = truncate(given.truncate)?;
    Ok(log)
}

fn audit_webhook(given: &AuditWebhookArguments) -> anyhow::Result<audit::webhook::Options> {
    let mut webhook = audit::webhook::Options::new(&given.config_file);
    if let Some(mode) = &given.mode {
        webhook.mode = mode.parse()?;
    }
    if let Some(buffer) = given.buffer {
        webhook.buffer = usize::try_from(buffer)?;
    }
    if let Some(most) = given.max_batch {
        webhook.max_batch = usize::try_from(most)?;
    }
    webhook.max_wait = given.max_wait.unwrap_or(webhook.max_wait);
    webhook.initial_backoff = given.initial_backoff.unwrap_or(webhook.initial_backoff);
    if let Some(throttle) = &mut webhook.throttle {
        throttle.qps = given.qps.unwrap_or(throttle.qps);
        throttle.burst = given.burst.unwrap_or(throttle.burst);
    }
    if given.throttle == Some(false) {
        webhook.throttle = None;
    }
    webhook.truncate = truncate(given.truncate)?;
    Ok(webhook)
}

fn truncate(given: Option<TruncateArguments>) -> anyhow::Result<Option<audit::Truncate>> {
    let Some(given) = given else { return Ok(None) };
    let mut limits = audit::Truncate::default();
    if let Some(bytes) = given.max_event_size {
        limits.max_event_size = usize::try_from(bytes)?;
    }
    if let Some(bytes) = given.max_batch_size {
        limits.max_batch_size = usize::try_from(bytes)?;
    }
    Ok(Some(limits))
}
