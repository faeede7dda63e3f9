//! Flow schemas: which requests belong together, and to which priority level.

use std::sync::Arc;

use k3s_api::authentication::UserInfo;
use serde::Deserialize;

use super::level::Level;
use super::metrics::Counts;
use crate::request::RequestInfo;

/// A flow schema, ready to be matched.
pub(super) struct Schema {
    pub name: String,
    /// Empty for the mandatory ones as long as they are not stored.
    pub uid: String,
    pub level: Arc<Level>,
    pub counts: Arc<Counts>,
    pub spec: Spec,
}

/// `FlowSchemaSpec`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub priority_level_configuration: Reference,
    #[serde(default)]
    pub matching_precedence: i64,
    #[serde(default)]
    distinguisher_method: Option<Method>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Reference {
    pub name: String,
}

#[derive(Debug, Deserialize)]
struct Method {
    #[serde(rename = "type")]
    kind: Distinguisher,
}

/// What tells the flows of one schema apart.
#[derive(Debug, Clone, Copy, Deserialize)]
enum Distinguisher {
    ByUser,
    ByNamespace,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    subjects: Vec<Subject>,
    #[serde(default)]
    resource_rules: Vec<ResourceRule>,
    #[serde(default)]
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
enum Subject {
    User {
        user: Reference,
    },
    Group {
        group: Reference,
    },
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        service_account: Account,
    },
}

#[derive(Debug, Deserialize)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    cluster_scope: bool,
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

const ANY: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ANY || item == wanted)
}

impl Schema {
    /// Whether the request is one of this schema's.
    pub fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.spec.rules.iter().any(|rule| rule.matches(user, info))
    }

    /// Requests for which this is the same are one flow, and share their queues' turns.
    pub fn distinguisher<'a>(&self, user: &'a UserInfo, info: &'a RequestInfo) -> &'a str {
        match self.spec.distinguisher_method.as_ref().map(|method| method.kind) {
            Some(Distinguisher::ByUser) => &user.name,
            Some(Distinguisher::ByNamespace) => &info.namespace,
            None => "",
        }
    }
}

impl Rule {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|subject| subject.matches(user))
            && match info.is_resource {
                true => self.resource_rules.iter().any(|rule| rule.matches(info)),
                false => self.non_resource_rules.iter().any(|rule| rule.matches(info)),
            }
    }
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User { user: wanted } => wanted.name == ANY || wanted.name == user.name,
            Self::Group { group } => user.groups.iter().any(|of| group.name == ANY || *of == group.name),
            Self::ServiceAccount { service_account: wanted } => {
                let account = user.name.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
                account.is_some_and(|(namespace, name)| {
                    namespace == wanted.namespace && (wanted.name == ANY || name == wanted.name)
                })
            }
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let place = if info.namespace.is_empty() { self.cluster_scope } else { has(&self.namespaces, &info.namespace) };
        place && has(&self.verbs, info.verb) && has(&self.api_groups, &info.group) && self.names_resource(info)
    }

    fn names_resource(&self, info: &RequestInfo) -> bool {
        self.resources.iter().any(|named| match named.split_once('/') {
            Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
            None => named == ANY || (info.subresource.is_empty() && *named == info.resource),
        })
    }
}

impl NonResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let path = info.path.as_str();
        has(&self.verbs, info.verb)
            && self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => url == path,
            })
    }
}
