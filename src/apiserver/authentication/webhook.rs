//! Tokens that another server judges, asked by `TokenReview`
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>).

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k3s_api::authentication::UserInfo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::service_account::Accepted;
use crate::remote;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// It is asked again so often, and after so long, when it does not.
const ATTEMPTS: u32 = 3;
const RETRY: Duration = Duration::from_millis(500);
/// Judgements that are remembered.
const REMEMBERED: usize = 4096;

/// Why a token is refused, or the options can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the kubeconfig of the token webhook {path}: {source}", path = path.display())]
    Kubeconfig { path: PathBuf, source: remote::KubeconfigError },
    #[error("the token webhook speaks v1 or v1beta1 of authentication.k8s.io, not {0:?}")]
    Version(String),
    #[error("token webhook: {0}")]
    Unreachable(#[from] remote::Error),
    #[error("token webhook: the answer is no TokenReview: {0}")]
    NoReview(#[from] serde_json::Error),
    #[error("token webhook: {0}")]
    Judged(String),
}

/// `--authentication-token-webhook-*`.
#[derive(Debug, Clone)]
pub struct Options {
    /// A kubeconfig: its cluster is the server, its user this one.
    pub config_file: PathBuf,
    /// How long a judgement holds.
    pub cache_ttl: Duration,
    /// `v1` or `v1beta1`.
    pub version: String,
}

impl Options {
    /// Kubernetes' defaults.
    pub fn new(config_file: impl Into<PathBuf>) -> Self {
        Self { config_file: config_file.into(), cache_ttl: Duration::from_secs(120), version: "v1beta1".to_owned() }
    }
}

/// The server, and what it said lately.
#[derive(Debug)]
pub(super) struct Webhook {
    remote: remote::Webhook,
    options: Options,
    known: Mutex<HashMap<[u8; 32], Judgement>>,
}

/// When it was made, and whose the token is.
type Judgement = (Instant, Option<Accepted>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Webhook {
    /// Reads the kubeconfig.
    ///
    /// # Errors
    /// If the options can't be used.
    pub fn new(options: Options) -> Result<Self, Error> {
        if !matches!(options.version.as_str(), "v1" | "v1beta1") {
            return Err(Error::Version(options.version));
        }
        let remote = remote::Webhook::load(&options.config_file, PATIENCE)
            .map_err(|source| Error::Kubeconfig { path: options.config_file.clone(), source })?;
        Ok(Self { remote, options, known: Mutex::default() })
    }

    /// Whose token it is, for some of `audiences`; `None`: nobody's.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn user(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Error> {
        let mut key = Sha256::new();
        // No secret is kept.
        for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            key.update(part.len().to_be_bytes());
            key.update(part);
        }
        let key: [u8; 32] = key.finalize().into();
        if let Some((since, judgement)) = self.known.lock().get(&key)
            && since.elapsed() < self.options.cache_ttl
        {
            return Ok(judgement.clone());
        }
        let judgement = self.ask(token, audiences).await?;
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (since, _)| since.elapsed() < self.options.cache_ttl);
        }
        // Somebody tries one made-up token after the other: then nothing is remembered.
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (Instant::now(), judgement.clone()));
        Ok(judgement)
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Error> {
        let mut spec = json!({"token": token});
        if !audiences.is_empty() {
            spec["audiences"] = json!(audiences);
        }
        let review = json!({"kind": "TokenReview", "spec": spec, "metadata": {"creationTimestamp": null},
            "apiVersion": format!("authentication.k8s.io/{}", self.options.version)});
        let mut attempt = 1;
        let mut answer = loop {
            match self.remote.post(&review).await {
                Ok(answer) => break answer,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                Err(error) => tracing::debug!(%error, attempt, "the token webhook is asked again"),
            }
            attempt += 1;
            tokio::time::sleep(RETRY).await;
        };
        judge(answer["status"].take(), audiences)
    }
}

fn judge(status: Value, audiences: &[String]) -> Result<Option<Accepted>, Error> {
    let status: Status = if status.is_null() { Status::default() } else { serde_json::from_value(status)? };
    if !status.authenticated {
        return if status.error.is_empty() { Ok(None) } else { Err(Error::Judged(status.error)) };
    }
    let User { username: name, uid, groups, extra } = status.user;
    if name.is_empty() {
        return Err(Error::Judged("the token is good, and nobody's".to_owned()));
    }
    // A server that knows nothing of audiences speaks for this one's.
    let meant = if status.audiences.is_empty() { audiences.to_vec() } else { status.audiences };
    let audiences: Vec<String> = audiences.iter().filter(|audience| meant.contains(audience)).cloned().collect();
    if audiences.is_empty() && !meant.is_empty() {
        return Ok(None);
    }
    Ok(Some(Accepted { user: UserInfo { name, uid, groups, extra }, audiences }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_names_the_user_or_nobody() {
        let own = ["k3s".to_owned()];
        let user = json!({"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"a": ["b"]}});
        let accepted = judge(json!({"authenticated": true, "user": user}), &own).unwrap().unwrap();
        assert_eq!((accepted.user.name.as_str(), accepted.user.uid.as_str()), ("jane", "7"));
        assert_eq!((accepted.user.extra["a"][0].as_str(), &accepted.audiences), ("b", &own.to_vec()));
        let other = json!({"authenticated": true, "user": user, "audiences": ["other"]});
        assert_eq!(judge(other, &own).unwrap(), None);
        assert_eq!(judge(json!({"authenticated": false, "user": {}}), &own).unwrap(), None);
        assert_eq!(judge(Value::Null, &own).unwrap(), None);
        assert!(judge(json!({"error": "broken"}), &own).is_err());
        assert!(judge(json!({"authenticated": true}), &own).is_err());
        assert!(judge(json!({"authenticated": "yes"}), &own).is_err());
    }
}
