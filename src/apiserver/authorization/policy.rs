//! All roles and bindings of the cluster, parsed and found by subject.

use std::collections::HashMap;
use std::sync::Arc;

use k3s_api::authentication::UserInfo;
use k3s_kine::Revision;
use serde::Deserialize;

use super::rules::Rule;
use super::{Attributes, Decision};
use crate::registry::{Cache, Entry};

/// The caches that the policy is made of.
pub(super) struct Sources {
    pub roles: Arc<Cache>,
    pub role_bindings: Arc<Cache>,
    pub cluster_roles: Arc<Cache>,
    pub cluster_role_bindings: Arc<Cache>,
}

impl Sources {
    /// Says which state the caches are in; another state has another answer.
    pub fn revisions(&self) -> [Revision; 4] {
        [&self.roles, &self.role_bindings, &self.cluster_roles, &self.cluster_role_bindings].map(|c| c.revision())
    }
}

/// The rules of roles and the bindings of one state of the cluster.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub revisions: [Revision; 4],
    /// By `namespace/name`.
    roles: HashMap<Arc<str>, Parsed<Role>>,
    cluster_roles: HashMap<Arc<str>, Parsed<Role>>,
    /// By `namespace/name`, and by name for those of the whole cluster.
    bindings: HashMap<Arc<str>, Parsed<Binding>>,
    cluster_bindings: HashMap<Arc<str>, Parsed<Binding>>,
    /// By namespace (empty: of the whole cluster) and subject: the bindings in their order.
    by_subject: HashMap<String, HashMap<Subject, Vec<Arc<str>>>>,
}

#[derive(Debug)]
struct Parsed<T> {
    revision: Revision,
    object: Arc<T>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Role {
    #[serde(default, deserialize_with = "rules")]
    pub rules: Vec<Rule>,
}

fn rules<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Binding {
    pub role_ref: RoleRef,
    subjects: Option<Vec<SubjectRef>>,
}

/// `roleRef`: the role a binding gives.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SubjectRef {
    kind: String,
    name: String,
    namespace: String,
}

/// Whom a binding is for. A service account is found by its user name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A binding that applies to a user, with the role's rules.
pub(super) struct Grant<'a> {
    /// The binding's `namespace/name`, or its name if it is for the whole cluster.
    binding: &'a str,
    role_ref: &'a RoleRef,
    /// As messages name the subject: `User "jane"`.
    subject: String,
    pub rules: &'a [Rule],
}

impl Policy {
    /// The policy of the caches' state now. What `previous` has already parsed is taken from there.
    pub fn build(sources: &Sources, previous: &Policy) -> Policy {
        let mut policy = Policy {
            // Read before the lists: a change meanwhile makes the next caller build anew.
            revisions: sources.revisions(),
            roles: parse(&sources.roles, &previous.roles),
            cluster_roles: parse(&sources.cluster_roles, &previous.cluster_roles),
            bindings: parse(&sources.role_bindings, &previous.bindings),
            cluster_bindings: parse(&sources.cluster_role_bindings, &previous.cluster_bindings),
            by_subject: HashMap::new(),
        };
        for (key, binding) in policy.bindings.iter().chain(&policy.cluster_bindings) {
            let namespace = key.rsplit_once('/').map_or("", |(namespace, _)| namespace);
            let subjects = policy.by_subject.entry(namespace.to_owned()).or_default();
            for subject in binding.object.subjects.iter().flatten() {
                if let Some(subject) = subject.resolve(namespace) {
                    subjects.entry(subject).or_default().push(Arc::clone(key));
                }
            }
        }
        for bindings in policy.by_subject.values_mut().flat_map(HashMap::values_mut) {
            bindings.sort_unstable();
            bindings.dedup();
        }
        policy
    }

    /// Calls `visit` with every binding that gives `user` something in `namespace` (empty: in the whole cluster), those
    /// of the cluster first, until it returns false. Returns what was wrong with bindings on the way.
    pub fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(Grant<'a>) -> bool,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Subject::Group))
            .collect();
        let scopes = if namespace.is_empty() { &[""][..] } else { &["", namespace][..] };
        for scope in scopes {
            let Some(by_subject) = self.by_subject.get(*scope) else { continue };
            let mut keys: Vec<(&Arc<str>, &Subject)> = subjects
                .iter()
                .flat_map(|subject| by_subject.get(subject).into_iter().flatten().map(move |key| (key, subject)))
                .collect();
            keys.sort_by_key(|(key, _)| *key);
            keys.dedup_by_key(|(key, _)| *key);
            let bindings = if scope.is_empty() { &self.cluster_bindings } else { &self.bindings };
            for (key, subject) in keys {
                let Some(binding) = bindings.get(key) else { continue };
                let role_ref = &binding.object.role_ref;
                match self.role(role_ref, scope) {
                    Some(role) => {
                        let grant = Grant { binding: key, role_ref, subject: subject.describe(), rules: &role.rules };
                        if !visit(grant) {
                            return problems;
                        }
                    }
                    None => problems.push(format!(
                        "{}.rbac.authorization.k8s.io {} not found",
                        role_ref.kind.to_ascii_lowercase(),
                        k3s_api::quote::quote(&role_ref.name)
                    )),
                }
            }
        }
        problems
    }

    /// The role that a binding in `namespace` (empty: of the cluster) gives.
    pub fn role(&self, role_ref: &RoleRef, namespace: &str) -> Option<&Role> {
        let role = match role_ref.kind.as_str() {
            "Role" => self.roles.get(format!("{namespace}/{}", role_ref.name).as_str()),
            _ => self.cluster_roles.get(role_ref.name.as_str()),
        };
        role.map(|role| &*role.object)
    }

    /// What RBAC says.
    pub fn authorize(&self, user: &UserInfo, asked: &Attributes<'_>) -> Decision {
        let mut reason = None;
        let namespace = if asked.is_resource { asked.namespace } else { "" };
        let problems = self.visit(user, namespace, |grant| {
            if grant.rules.iter().any(|rule| rule.allows(asked)) {
                reason = Some(grant.describe());
            }
            reason.is_none()
        });
        match reason {
            Some(reason) => Decision::allow(reason),
            None if problems.is_empty() => Decision::none(""),
            None => Decision::none(format!("RBAC: {}", k3s_api::status::aggregate(&problems))),
        }
    }
}

impl Grant<'_> {
    /// `RBAC: allowed by RoleBinding "rb/ns" of Role "r" to User "jane"`.
    fn describe(&self) -> String {
        // Kubernetes writes name/namespace here, not the other way round.
        let (kind, binding) = match self.binding.rsplit_once('/') {
            Some((namespace, name)) => ("RoleBinding", format!("{name}/{namespace}")),
            None => ("ClusterRoleBinding", self.binding.to_owned()),
        };
        let quote = k3s_api::quote::quote;
        let (role_kind, role) = (&self.role_ref.kind, quote(&self.role_ref.name));
        format!("RBAC: allowed by {kind} {} of {role_kind} {role} to {}", quote(&binding), self.subject)
    }
}

impl SubjectRef {
    fn resolve(&self, binding_namespace: &str) -> Option<Subject> {
        match self.kind.as_str() {
            "User" => Some(Subject::User(self.name.clone())),
            "Group" => Some(Subject::Group(self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                Some(Subject::User(format!("system:serviceaccount:{namespace}:{}", self.name)))
            }
            _ => None,
        }
    }
}

impl Subject {
    fn describe(&self) -> String {
        match self {
            Subject::User(name) => match name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':')) {
                Some((namespace, name)) => format!("ServiceAccount {}", quoted(&format!("{name}/{namespace}"))),
                None => format!("User {}", quoted(name)),
            },
            Subject::Group(name) => format!("Group {}", quoted(name)),
        }
    }
}

fn quoted(text: &str) -> String {
    k3s_api::quote::quote(text).to_string()
}

fn parse<T: for<'de> Deserialize<'de> + Default>(
    cache: &Cache,
    previous: &HashMap<Arc<str>, Parsed<T>>,
) -> HashMap<Arc<str>, Parsed<T>> {
    cache.list("").entries.iter().map(|entry| (Arc::clone(entry.key()), parse_one(entry, previous))).collect()
}

fn parse_one<T: for<'de> Deserialize<'de> + Default>(
    entry: &Entry,
    previous: &HashMap<Arc<str>, Parsed<T>>,
) -> Parsed<T> {
    let revision = entry.revision();
    if let Some(known) = previous.get(entry.key())
        && known.revision == revision
    {
        return Parsed { revision, object: Arc::clone(&known.object) };
    }
    let object = serde_json::from_slice(entry.bytes()).unwrap_or_else(|error| {
        // It grants nothing: the safe side.
        tracing::error!(key = %entry.key(), %error, "a role or binding cannot be read and is ignored");
        T::default()
    });
    Parsed { revision, object: Arc::new(object) }
}
