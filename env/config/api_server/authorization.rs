//! Who decides what users may do.

use std::path::PathBuf;
use std::time::Duration;

use super::{FLAG, one_of, path};
use crate::flag::types;
use crate::{Error, Values};

/// Flags of authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationArguments {
    /// `authorization-mode`
    Modes(Vec<AuthorizationMode>),
    /// `authorization-config`
    File(PathBuf),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationMode {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(AuthorizationWebhookArguments),
}

/// Flags of the server that is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationWebhookArguments {
    pub config_file: PathBuf,
    pub version: Option<String>,
    pub authorized_ttl: Option<Duration>,
    pub unauthorized_ttl: Option<Duration>,
}

impl Default for AuthorizationArguments {
    fn default() -> Self {
        Self::Modes(vec![AuthorizationMode::Node, AuthorizationMode::Rbac])
    }
}

/// The flags of mode `Webhook`, of which none may be there without it.
const WEBHOOK: [&str; 4] = [
    "authorization-webhook-config-file",
    "authorization-webhook-version",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
];

impl AuthorizationArguments {
    pub(super) fn from_values(values: &Values) -> Result<Self, Error> {
        let modes = values.arguments(FLAG, "authorization-mode").pop();
        let webhook = WEBHOOK.into_iter().find(|name| !values.arguments(FLAG, name).is_empty());
        if let Some(file) = path(values, "authorization-config") {
            return match (&modes, webhook) {
                (None, None) => Ok(Self::File(file)),
                _ => Err(values.bad(
                    FLAG,
                    "authorization-config says all of it: authorization-mode and authorization-webhook-* may not be \
                     there beside it",
                )),
            };
        }
        let names = modes.unwrap_or_else(|| "Node,RBAC".to_owned());
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        if let Some(name) = webhook.filter(|_| !names.contains(&"Webhook")) {
            return Err(values.bad(FLAG, format!("{name} takes Webhook in authorization-mode")));
        }
        let mut parsed = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(values.bad(FLAG, format!("authorization-mode has {name} twice")));
            }
            parsed.push(mode(values, name)?);
        }
        match parsed.is_empty() {
            true => Err(values.bad(FLAG, "authorization-mode names nobody who would be asked")),
            false => Ok(Self::Modes(parsed)),
        }
    }
}

fn mode(values: &Values, name: &str) -> Result<AuthorizationMode, Error> {
    Ok(match name {
        "Node" => AuthorizationMode::Node,
        "RBAC" => AuthorizationMode::Rbac,
        "AlwaysAllow" => AuthorizationMode::AlwaysAllow,
        "AlwaysDeny" => AuthorizationMode::AlwaysDeny,
        "Webhook" => {
            let config_file = path(values, "authorization-webhook-config-file").ok_or_else(|| {
                values.bad(FLAG, "authorization-mode Webhook takes authorization-webhook-config-file")
            })?;
            let ttl = |name| values.argument(FLAG, name, types::duration);
            AuthorizationMode::Webhook(AuthorizationWebhookArguments {
                config_file,
                version: one_of(values, "authorization-webhook-version", &["v1", "v1beta1"])?,
                authorized_ttl: ttl("authorization-webhook-cache-authorized-ttl")?,
                unauthorized_ttl: ttl("authorization-webhook-cache-unauthorized-ttl")?,
            })
        }
        "ABAC" => return Err(values.refused(FLAG, "authorization-mode ABAC: a file of policies is not read; use RBAC")),
        other => {
            let known = "Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny";
            return Err(values.bad(FLAG, format!("authorization-mode {other:?} is not one of {known}")));
        }
    })
}
