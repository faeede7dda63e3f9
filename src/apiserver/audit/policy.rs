//! What is written into the audit log, and how much of it: `audit.k8s.io/v1` `Policy`
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#audit-policy>).

use std::path::{Path, PathBuf};

use k3s_api::authentication::UserInfo;
use serde::{Deserialize, Serialize};

use crate::request::RequestInfo;

/// Why a policy file is no good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the audit policy {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the audit policy {path} is not valid: {detail}", path = path.display())]
    Invalid { path: PathBuf, detail: String },
}

/// How much of a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Level {
    /// Nothing at all.
    None,
    /// Who asked for what, when, and how it ended.
    Metadata,
    /// And the body of the request.
    Request,
    /// And the body of the answer.
    RequestResponse,
}

/// When it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Stage {
    RequestReceived,
    /// The answer has begun; only of what runs long.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// A policy: the first rule that matches decides; what none matches is not written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a policy says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// If it cannot be read, or is no policy.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|detail| Error::Invalid { path: path.to_owned(), detail })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            let (version, kind) = (&policy.api_version, &policy.kind);
            return Err(format!("it is a {kind} of {version}, not a Policy of audit.k8s.io/v1"));
        }
        if policy.rules.is_empty() {
            return Err("it has no rules, so nothing would be logged".to_owned());
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.urls.is_empty() {
                return Err(format!("rules[{at}]: nonResourceURLs can't stand together with resources or namespaces"));
            }
            if let Some(url) = rule.urls.iter().find(|url| *url != "*" && !url.starts_with('/')) {
                return Err(format!("rules[{at}]: nonResourceURLs: {url:?} does not begin with '/'"));
            }
        }
        Ok(policy)
    }

    /// What is written of a request by `user`; `None`: nothing.
    pub fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Option<Decision> {
        let rule = self.rules.iter().find(|rule| rule.matches(user, info))?;
        if rule.level == Level::None {
            return None;
        }
        Some(Decision {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

impl Rule {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|item| item == name);
        if !named(&self.users, &user.name) || !named(&self.verbs, info.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !user.groups.iter().any(|group| self.user_groups.contains(group)) {
            return false;
        }
        if !self.urls.is_empty() {
            return !info.is_resource
                && self.urls.iter().any(|url| match url.strip_suffix('*') {
                    Some(prefix) => info.path.starts_with(prefix),
                    None => *url == info.path,
                });
        }
        if self.resources.is_empty() && self.namespaces.is_empty() {
            return true;
        }
        info.is_resource
            && named(&self.namespaces, &info.namespace)
            && (self.resources.is_empty() || self.resources.iter().any(|resources| resources.matches(info)))
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group || !(self.resources.is_empty() || self.resources.iter().any(|r| names(r, info))) {
            return false;
        }
        self.resource_names.is_empty() || self.resource_names.contains(&info.name)
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale` or `*`.
fn names(resource: &str, info: &RequestInfo) -> bool {
    match resource.split_once('/') {
        None => resource == "*" || (info.subresource.is_empty() && resource == info.resource),
        Some((_, _)) if info.subresource.is_empty() => false,
        Some((resource, subresource)) => {
            (resource == "*" || resource == info.resource) && (subresource == "*" || subresource == info.subresource)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request::Query;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: ['system:kube-proxy'], verbs: [watch], resources: [{group: '', resources: [endpoints]}]}
- {level: None, userGroups: ['system:authenticated'], nonResourceURLs: ['/api*', '/version']}
- {level: Request, resources: [{group: '', resources: [configmaps]}], namespaces: [kube-system]}
- {level: Metadata, resources: [{group: '', resources: [secrets, pods/log, 'services/*', '*/scale']}]}
- {level: RequestResponse, omitStages: [ResponseStarted], omitManagedFields: false,
   resources: [{group: apps, resourceNames: [web]}]}
- {level: Metadata, namespaces: ['']}
";

    fn level(user: &str, method: Method, url: &str) -> Option<Level> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let info = RequestInfo::new(&method, path, &Query::parse(query));
        Policy::parse(POLICY).unwrap().decide(&UserInfo::new(user, &[]), &info).map(|decision| decision.level)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (user, method, url, expected) in [
            ("system:kube-proxy", Method::GET, "/api/v1/endpoints?watch=1", None),
            ("jane", Method::GET, "/api/v1/endpoints?watch=1", Some(Level::Metadata)),
            ("jane", Method::GET, "/apis", None),
            ("jane", Method::GET, "/metrics", None),
            ("jane", Method::PUT, "/api/v1/namespaces/kube-system/configmaps/m", Some(Level::Request)),
            ("jane", Method::PUT, "/api/v1/namespaces/default/configmaps/m", None),
            ("jane", Method::GET, "/api/v1/namespaces/default/secrets/s", Some(Level::Metadata)),
            ("jane", Method::GET, "/api/v1/namespaces/default/pods/p/log", Some(Level::Metadata)),
            ("jane", Method::GET, "/api/v1/namespaces/default/pods/p", None),
            ("jane", Method::GET, "/api/v1/namespaces/default/services/s/proxy", Some(Level::Metadata)),
            ("jane", Method::GET, "/apis/apps/v1/namespaces/a/deployments/web", Some(Level::RequestResponse)),
            ("jane", Method::GET, "/apis/apps/v1/namespaces/a/deployments/db", None),
            ("jane", Method::GET, "/api/v1/nodes", Some(Level::Metadata)),
        ] {
            assert_eq!(level(user, method.clone(), url), expected, "{user} {method} {url}");
        }
    }

    #[test]
    fn stages_and_managed_fields_are_omitted_by_policy_and_rule() {
        let policy = Policy::parse(POLICY).unwrap();
        let info = RequestInfo::new(&Method::GET, "/apis/apps/v1/namespaces/a/deployments/web", &Query::default());
        let decision = policy.decide(&UserInfo::new("jane", &[]), &info).unwrap();
        assert_eq!(decision.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(!decision.omit_managed_fields);
    }

    #[test]
    fn a_policy_that_means_something_else_is_refused() {
        let with = |rules: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n");
        for (text, why) in [
            (with("[]"), "no rules"),
            (with("[{level: Everything}]"), "Everything"),
            (with("[{level: Metadata, user: [a]}]"), "user"),
            (with("[{level: Metadata, nonResourceURLs: ['/a'], namespaces: [a]}]"), "rules[0]"),
            (with("[{level: Metadata}]").replace("v1", "v1alpha1"), "v1alpha1"),
        ] {
            let error = Policy::parse(&text).expect_err(&text);
            assert!(error.contains(why), "{error}");
        }
    }
}
