//! Authorizers that are asked in turn, until one decides.

use std::sync::atomic::{AtomicU64, Ordering};

use k3s_api::authentication::UserInfo;
use k3s_api::status::aggregate;

use super::config::{Error, Mode};
use super::webhook::Webhook;
use super::{Attributes, Authorizer, Decision, Opinion, Rule, node};
use crate::registry::{self, Registry};

/// The authorizers, in their order.
pub(super) struct Chain(Vec<Member>);

struct Member {
    by: By,
    decided: Decided,
}

/// How often it has decided, and how.
#[derive(Default)]
struct Decided {
    allowed: AtomicU64,
    denied: AtomicU64,
}

enum By {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Box<Webhook>),
}

impl Default for Chain {
    fn default() -> Self {
        Self([By::Node, By::Rbac].map(Member::from).into())
    }
}

impl From<By> for Member {
    fn from(by: By) -> Self {
        Self { by, decided: Decided::default() }
    }
}

impl Chain {
    /// Reads what the authorizers name.
    ///
    /// # Errors
    /// If a webhook can't be used.
    pub fn new(modes: &[Mode]) -> Result<Self, Error> {
        let member = |mode: &Mode| {
            let by = match mode {
                Mode::Node => By::Node,
                Mode::Rbac => By::Rbac,
                Mode::AlwaysAllow => By::AlwaysAllow,
                Mode::AlwaysDeny => By::AlwaysDeny,
                Mode::Webhook(options) => By::Webhook(Box::new(Webhook::new(options)?)),
            };
            Ok(Member::from(by))
        };
        Ok(Self(modes.iter().map(member).collect::<Result<_, Error>>()?))
    }

    /// The first decision, or why there is none.
    ///
    /// # Errors
    /// If the roles cannot be read from the datastore.
    pub async fn authorize(
        &self,
        authorizer: &Authorizer,
        registry: &Registry,
        user: &UserInfo,
        asked: &Attributes<'_>,
    ) -> Result<Decision, registry::Error> {
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        for member in &self.0 {
            let decision = match &member.by {
                By::Node => match node::name(user) {
                    Some(node) => node::authorize(node, asked, registry).await?,
                    None => continue,
                },
                By::Rbac => authorizer.policy(registry).await?.authorize(user, asked),
                By::AlwaysAllow => Decision::allow(""),
                By::AlwaysDeny => Decision::none("Everything is forbidden."),
                By::Webhook(webhook) => webhook.authorize(user, asked).await,
            };
            match decision.opinion {
                Opinion::Allow => member.decided.allowed.fetch_add(1, Ordering::Relaxed),
                Opinion::Deny => member.decided.denied.fetch_add(1, Ordering::Relaxed),
                Opinion::None => {
                    reasons.extend(Some(decision.reason).filter(|reason| !reason.is_empty()));
                    errors.extend(decision.error);
                    continue;
                }
            };
            return Ok(decision);
        }
        let error = (!errors.is_empty()).then(|| aggregate(&errors));
        Ok(Decision { opinion: Opinion::None, reason: reasons.join("\n"), error })
    }

    /// The rules that a user has in a namespace, of those who can list them, and why that may not be all.
    ///
    /// # Errors
    /// If the roles cannot be read from the datastore.
    pub async fn list(
        &self,
        authorizer: &Authorizer,
        registry: &Registry,
        user: &UserInfo,
        namespace: &str,
    ) -> Result<(Vec<Rule>, Vec<String>), registry::Error> {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for member in &self.0 {
            match &member.by {
                By::Node if node::name(user).is_some() => {
                    problems.push("node authorizer does not support user rule resolution".to_owned());
                }
                By::Node | By::AlwaysDeny => {}
                By::Rbac => {
                    let (more, wrong) = authorizer.rules(registry, user, namespace).await?;
                    rules.extend(more);
                    problems.extend(wrong);
                }
                By::AlwaysAllow => {
                    let all = || vec!["*".to_owned()];
                    rules.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
                    rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
                }
                By::Webhook(_) => problems.push("webhook authorizer does not support user rule resolution".to_owned()),
            }
        }
        Ok((rules, problems))
    }

    /// The webhooks among them.
    pub fn webhooks(&self) -> impl Iterator<Item = &Webhook> {
        self.0.iter().filter_map(|member| match &member.by {
            By::Webhook(webhook) => Some(&**webhook),
            _ => None,
        })
    }

    /// Kind and name of each, and how often it has allowed and denied.
    pub fn decisions(&self) -> impl Iterator<Item = (&'static str, &str, u64, u64)> {
        self.0.iter().map(|member| {
            let (kind, name) = match &member.by {
                By::Node => ("Node", "node"),
                By::Rbac => ("RBAC", "rbac"),
                By::AlwaysAllow => ("AlwaysAllow", "alwaysallow"),
                By::AlwaysDeny => ("AlwaysDeny", "alwaysdeny"),
                By::Webhook(webhook) => ("Webhook", webhook.name()),
            };
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
            (kind, name, of(&member.decided.allowed), of(&member.decided.denied))
        })
    }
}
