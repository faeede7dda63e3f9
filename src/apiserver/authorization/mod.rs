//! May this user do that? Members of `system:masters` may do anything; then the Node authorizer speaks for kubelets, and
//! RBAC for everybody, as k3s sets it (`--authorization-mode=Node,RBAC`).

pub mod escalation;
mod node;
mod policy;
mod rules;

use std::sync::Arc;

use k3s_api::authentication::UserInfo;
use k3s_api::quote::quote;
use k3s_api::status::Status;
use parking_lot::{Mutex, RwLock};

pub use policy::RoleRef;
pub use rules::Rule;

use crate::registry::{self, Registry};
use crate::request::RequestInfo;
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

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes; `reason` says by what right.
    Allowed { reason: String },
    /// Nothing that would allow it: that means no, if nobody else allows it either.
    NoOpinion { reason: String },
}

impl Decision {
    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

/// Decides from the roles and bindings in the registry.
#[derive(Default)]
pub struct Authorizer {
    policy: RwLock<Arc<Policy>>,
    building: Mutex<()>,
}

impl Authorizer {
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
        let asked = asked.into();
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(Decision::Allowed { reason: String::new() });
        }
        let policy = self.policy(registry).await?;
        let mut reasons = Vec::new();
        if let Some(node) = node::name(user) {
            match node::authorize(node, &asked, registry).await? {
                Decision::NoOpinion { reason } => reasons.push(reason),
                allowed => return Ok(allowed),
            }
        }
        match policy.authorize(user, &asked) {
            Decision::NoOpinion { reason } => reasons.push(reason),
            allowed => return Ok(allowed),
        }
        reasons.retain(|reason| !reason.is_empty());
        Ok(Decision::NoOpinion { reason: reasons.join("\n") })
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
        match self.authorize(registry, user, asked).await? {
            Decision::Allowed { .. } => Ok(()),
            Decision::NoOpinion { reason } => Err(asked.forbidden(user, &reason)),
        }
    }

    /// All rules that `user` has in `namespace`, and what was wrong with bindings on the way.
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
