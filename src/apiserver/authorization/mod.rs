//! May this user do that? Members of `system:masters` may do anything; of everybody else the authorizers of a [`Chain`]
//! are asked in turn. By default the Node authorizer speaks for kubelets, and RBAC for everybody, as k3s sets it
//! (`--authorization-mode=Node,RBAC`); another server may be asked too ([`webhook`]).

mod chain;
pub mod config;
pub mod escalation;
pub(crate) mod follow;
pub(crate) mod metrics;
pub(crate) mod node;
mod policy;
mod rules;
pub mod webhook;

use std::sync::Arc;

use k3s_api::authentication::UserInfo;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use parking_lot::{Mutex, RwLock};

pub use config::{Config, Error, Mode};
pub use policy::RoleRef;
pub use rules::Rule;

use crate::registry::{self, Registry};
use crate::request::RequestInfo;
use chain::Chain;
use policy::{Policy, Sources};

/// The group whose members may do anything.
pub const MASTERS: &str = "system:masters";

/// What is asked: a verb on a resource, or on a URL that is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, …; for URLs the HTTP method in lower case; reviews may ask about any word.
    pub verb: &'a str,
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    /// Empty: the whole cluster.
    pub namespace: &'a str,
    /// Empty: any.
    pub name: &'a str,
    /// Of a request for no resource.
    pub path: &'a str,
    /// Of a list, watch or deletecollection: which objects are meant, as the request writes it.
    pub label_selector: &'a str,
    pub field_selector: &'a str,
}

impl<'a> From<&'a RequestInfo> for Attributes<'a> {
    fn from(info: &'a RequestInfo) -> Self {
        Self {
            verb: info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            label_selector: &info.label_selector,
            field_selector: &info.field_selector,
        }
    }
}

impl Attributes<'_> {
    /// The 403 that says `user` may not: `pods is forbidden: User "x" cannot list resource "pods" in API group "" in the
    /// namespace "default"`, with the authorizers' `reason` behind it, if there is one.
    pub fn forbidden(&self, user: &UserInfo, reason: &str) -> Status {
        let user = quote(&user.name);
        let mut message = if self.is_resource {
            let resource = match self.subresource {
                "" => self.resource.to_owned(),
                subresource => format!("{}/{subresource}", self.resource),
            };
            let scope = match self.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quote(namespace)),
            };
            format!(
                "User {user} cannot {} resource {} in API group {} {scope}",
                self.verb,
                quote(&resource),
                quote(self.group)
            )
        } else {
            format!("User {user} cannot {} path {}", self.verb, quote(self.path))
        };
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        Status::forbidden(self.group, self.resource, self.name, message)
    }
}

/// Which way an authorizer decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    Allow,
    /// No, whatever others would say.
    Deny,
    /// Nothing that would allow it: that means no, if nobody else allows it either.
    None,
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub opinion: Opinion,
    /// By what right, or why not; may be empty.
    pub reason: String,
    /// Why somebody could not decide.
    pub error: Option<String>,
}

impl Decision {
    /// Yes, for that reason.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self { opinion: Opinion::Allow, reason: reason.into(), error: None }
    }

    /// Nothing that would allow it, for that reason.
    pub fn none(reason: impl Into<String>) -> Self {
        Self { opinion: Opinion::None, reason: reason.into(), error: None }
    }

    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        self.opinion == Opinion::Allow
    }

    /// What becomes of a request of `user`.
    ///
    /// # Errors
    /// 403 if he may not do it; 500 if nobody allows it and somebody who might could not decide.
    pub fn enforce(self, user: &UserInfo, asked: &Attributes<'_>) -> Result<(), Status> {
        match self {
            Self { opinion: Opinion::Allow, .. } => Ok(()),
            Self { error: Some(error), .. } => Err(Status::internal(error)),
            Self { reason, .. } => Err(asked.forbidden(user, &reason)),
        }
    }
}

/// Decides as it is configured, and from the roles and bindings in the registry.
#[derive(Default)]
pub struct Authorizer {
    chain: RwLock<Arc<Chain>>,
    policy: RwLock<Arc<Policy>>,
    building: Mutex<()>,
    pub(crate) reloads: follow::Reloads,
}

impl Authorizer {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// If a file can't be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self { chain: RwLock::new(Arc::new(Chain::new(&config.modes()?)?)), ..Self::default() })
    }

    /// Decides by these authorizers from now on.
    ///
    /// # Errors
    /// If a file that they name can't be used: then all stays as it is.
    pub fn replace(&self, modes: &[Mode]) -> Result<(), Error> {
        let chain = Arc::new(Chain::new(modes)?);
        *self.chain.write() = chain;
        Ok(())
    }

    /// Whether `user` may do what is asked.
    ///
    /// # Errors
    /// If the roles cannot be read from the datastore.
    pub async fn authorize(
        &self,
        registry: &Registry,
        user: &UserInfo,
        asked: impl Into<Attributes<'_>>,
    ) -> Result<Decision, registry::Error> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(Decision::allow(""));
        }
        let chain = Arc::clone(&self.chain.read());
        chain.authorize(self, registry, user, &asked.into()).await
    }

    /// As [`Authorizer::authorize`], with the 403 for a no.
    ///
    /// # Errors
    /// The 403, or a 500 if the roles cannot be read.
    pub async fn require(
        &self,
        registry: &Registry,
        user: &UserInfo,
        asked: impl Into<Attributes<'_>>,
    ) -> Result<(), Status> {
        let asked = asked.into();
        self.authorize(registry, user, asked).await?.enforce(user, &asked)
    }

    /// What `user` may do in `namespace`, as far as the authorizers can list it, and why that may not be all.
    ///
    /// # Errors
    /// If the roles cannot be read from the datastore.
    pub async fn list(
        &self,
        registry: &Registry,
        user: &UserInfo,
        namespace: &str,
    ) -> Result<(Vec<Rule>, Vec<String>), registry::Error> {
        let chain = Arc::clone(&self.chain.read());
        chain.list(self, registry, user, namespace).await
    }

    /// All rules that RBAC gives `user` in `namespace`, and what was wrong with bindings on the way.
    ///
    /// # Errors
    /// If the roles cannot be read from the datastore.
    pub async fn rules(
        &self,
        registry: &Registry,
        user: &UserInfo,
        namespace: &str,
    ) -> Result<(Vec<Rule>, Vec<String>), registry::Error> {
        let policy = self.policy(registry).await?;
        let mut rules = Vec::new();
        let problems = policy.visit(user, namespace, |grant| {
            rules.extend_from_slice(grant.rules);
            true
        });
        Ok((rules, problems))
    }

    /// The rules of a role, if it exists.
    async fn role(
        &self,
        registry: &Registry,
        role: &RoleRef,
        namespace: &str,
    ) -> Result<Option<Vec<Rule>>, registry::Error> {
        Ok(self.policy(registry).await?.role(role, namespace).map(|role| role.rules.clone()))
    }

    async fn policy(&self, registry: &Registry) -> Result<Arc<Policy>, registry::Error> {
        let sources = Sources {
            roles: registry.cache_of_prefix("/registry/roles/").await?,
            role_bindings: registry.cache_of_prefix("/registry/rolebindings/").await?,
            cluster_roles: registry.cache_of_prefix("/registry/clusterroles/").await?,
            cluster_role_bindings: registry.cache_of_prefix("/registry/clusterrolebindings/").await?,
        };
        let known = Arc::clone(&self.policy.read());
        if known.revisions == sources.revisions() {
            return Ok(known);
        }
        let _one_at_a_time = self.building.lock();
        let known = Arc::clone(&self.policy.read());
        if known.revisions == sources.revisions() {
            return Ok(known);
        }
        let built = Arc::new(Policy::build(&sources, &known));
        *self.policy.write() = Arc::clone(&built);
        Ok(built)
    }
}
