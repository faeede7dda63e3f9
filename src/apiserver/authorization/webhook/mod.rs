//! A server that is asked by `SubjectAccessReview` whether a user may do something
//! (<https://kubernetes.io/docs/reference/access-authn-authz/webhook/>).

mod conditions;
mod known;
mod review;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k3s_api::authentication::UserInfo;
use serde_json::Value;

use super::{Attributes, Decision, Opinion};
use crate::remote;
use conditions::Conditions;
use known::Known;
use review::Version;

/// It is asked again so often when it says that it is worth it, the first time after [`RETRY`], then each time after
/// half as long again.
const ATTEMPTS: u32 = 5;
const RETRY: Duration = Duration::from_millis(500);

/// Why the server can't be asked, or has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the kubeconfig of the authorization webhook {path}: {source}", path = path.display())]
    Kubeconfig { path: PathBuf, source: remote::KubeconfigError },
    #[error("the authorization webhook speaks v1 or v1beta1 of authorization.k8s.io, not {0:?}")]
    Version(String),
    #[error("the authorization webhook {name} has a match condition that can't be used: {detail}")]
    Condition { name: String, detail: String },
    #[error("authorization webhook {name}: {source}")]
    Unanswered { name: String, source: remote::Error },
    #[error("authorization webhook {name}: {detail}")]
    NoReview { name: String, detail: String },
}

/// What a server that can't be asked means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next authorizer is asked.
    NoOpinion,
    /// No.
    Deny,
}

/// A webhook of the authorization configuration, or `--authorization-webhook-*`.
#[derive(Debug, Clone)]
pub struct Options {
    /// How it is called in messages and metrics.
    pub name: String,
    /// A kubeconfig: its cluster is the server, its user this one.
    pub config_file: PathBuf,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long a yes holds; zero: it is asked anew.
    pub authorized_ttl: Duration,
    /// How long everything else holds.
    pub unauthorized_ttl: Duration,
    /// How long the server has to answer.
    pub timeout: Duration,
    pub failure_policy: FailurePolicy,
    /// CEL over `request`, a `SubjectAccessReviewSpec`: all must hold for it to be asked.
    pub match_conditions: Vec<String>,
}

impl Options {
    /// Kubernetes' defaults of the flags.
    pub fn new(config_file: impl Into<PathBuf>) -> Self {
        Self {
            name: "default".to_owned(),
            config_file: config_file.into(),
            version: "v1beta1".to_owned(),
            authorized_ttl: Duration::from_secs(300),
            unauthorized_ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            failure_policy: FailurePolicy::NoOpinion,
            match_conditions: Vec::new(),
        }
    }
}

/// How its questions ended.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    /// Of those that failed: left to the next authorizer.
    pub failed_open: AtomicU64,
    /// Not asked, because of the match conditions.
    pub excluded: AtomicU64,
}

/// The server, and what it said lately.
pub(super) struct Webhook {
    remote: remote::Webhook,
    options: Options,
    version: Version,
    conditions: Conditions,
    known: Known,
    counts: Counts,
}

impl Webhook {
    /// Reads the kubeconfig and compiles the match conditions.
    ///
    /// # Errors
    /// If the options can't be used.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let options = options.clone();
        let version = Version::parse(&options.version).ok_or_else(|| Error::Version(options.version.clone()))?;
        let remote = remote::Webhook::load(&options.config_file, options.timeout)
            .map_err(|source| Error::Kubeconfig { path: options.config_file.clone(), source })?;
        let conditions = Conditions::compile(&options.match_conditions)
            .map_err(|detail| Error::Condition { name: options.name.clone(), detail })?;
        Ok(Self { remote, options, version, conditions, known: Known::default(), counts: Counts::default() })
    }

    /// How it is called.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// How its questions ended.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What it says, now or lately.
    pub async fn authorize(&self, user: &UserInfo, asked: &Attributes<'_>) -> Decision {
        match self.conditions.hold(user, asked) {
            Ok(true) => {}
            Ok(false) => {
                self.counts.excluded.fetch_add(1, Ordering::Relaxed);
                return Decision::none("");
            }
            Err(error) => return self.undecided(error),
        }
        let review = review::question(self.version, user, asked);
        // What makes a question another one: the order of its fields is always the same.
        let key = review["spec"].to_string();
        if let Some(decision) = self.known.get(&key) {
            return decision;
        }
        match self.ask(&review).await {
            Ok(decision) => {
                self.counts.succeeded.fetch_add(1, Ordering::Relaxed);
                let Options { authorized_ttl, unauthorized_ttl, .. } = self.options;
                self.known.keep(key, &decision, if decision.is_allowed() { authorized_ttl } else { unauthorized_ttl });
                decision
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "an authorization webhook has not decided");
                self.undecided(error.to_string())
            }
        }
    }

    fn undecided(&self, error: String) -> Decision {
        let opinion = match self.options.failure_policy {
            FailurePolicy::Deny => Opinion::Deny,
            FailurePolicy::NoOpinion => {
                self.counts.failed_open.fetch_add(1, Ordering::Relaxed);
                Opinion::None
            }
        };
        Decision { opinion, reason: String::new(), error: Some(error) }
    }

    async fn ask(&self, review: &Value) -> Result<Decision, Error> {
        let name = || self.options.name.clone();
        let (mut attempt, mut pause) = (1, RETRY);
        let answer = loop {
            match self.remote.post(review).await {
                Ok(answer) => break answer,
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {
                    tracing::debug!(%error, attempt, "the authorization webhook is asked again");
                }
                Err(source) => return Err(Error::Unanswered { name: name(), source }),
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
            pause = pause * 3 / 2;
        };
        review::answer(answer).map_err(|detail| Error::NoReview { name: name(), detail })
    }
}
