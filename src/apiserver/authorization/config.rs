//! Who is asked whether a user may do something: flags, or `AuthorizationConfiguration` of `apiserver.config.k8s.io`
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization>).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k3s_api::validation::names;
use serde::Deserialize;

use super::webhook::{self, FailurePolicy};
use crate::deadline;

/// Why nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the authorization configuration {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("authorization configuration {path}: {detail}", path = path.display())]
    Invalid { path: PathBuf, detail: String },
    #[error(transparent)]
    Webhook(#[from] webhook::Error),
}

/// An authorizer.
#[derive(Debug, Clone)]
pub enum Mode {
    Node,
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
    Webhook(webhook::Options),
}

/// Who is asked, in which order.
#[derive(Debug, Clone)]
pub enum Config {
    /// `--authorization-mode`
    Modes(Vec<Mode>),
    /// `--authorization-config`: a file that is looked at again every so often.
    File { path: PathBuf, reload: Duration },
}

impl Default for Config {
    fn default() -> Self {
        Self::Modes(vec![Mode::Node, Mode::Rbac])
    }
}

impl Config {
    /// A file that is looked at as often as Kubernetes does.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), reload: Duration::from_secs(60) }
    }

    /// The authorizers.
    ///
    /// # Errors
    /// If the file can't be used.
    pub fn modes(&self) -> Result<Vec<Mode>, Error> {
        match self {
            Self::Modes(modes) => Ok(modes.clone()),
            Self::File { path, .. } => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
                parse(path, &text)
            }
        }
    }
}

/// The authorizers that the text of a file names.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Mode>, Error> {
    let invalid = |detail: String| Error::Invalid { path: path.to_owned(), detail };
    let file: File = serde_saphyr::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let known = matches!(file.api_version.as_str(), "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1");
    if !known || file.kind != "AuthorizationConfiguration" {
        let (version, kind) = (&file.api_version, &file.kind);
        return Err(invalid(format!(
            "it has {version}, {kind}; want apiserver.config.k8s.io/v1, AuthorizationConfiguration"
        )));
    }
    if file.authorizers.is_empty() {
        return Err(invalid("authorizers: at least one authorization mode must be defined".to_owned()));
    }
    let (mut types, mut seen, mut modes) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (index, authorizer) in file.authorizers.into_iter().enumerate() {
        let at = |detail: String| invalid(format!("authorizers[{index}]{detail}"));
        let (of, name) = (authorizer.r#type.as_str(), authorizer.name.as_str());
        if name.is_empty() {
            return Err(at(".name: it is required".to_owned()));
        }
        if let Some(why) = names::dns1123_subdomain(name).into_iter().next() {
            return Err(at(format!(".name: {name:?}: {why}")));
        }
        if !seen.insert(name.to_owned()) {
            return Err(at(format!(".name: {name:?} is there twice")));
        }
        if of != "Webhook" && !types.insert(of.to_owned()) {
            return Err(at(format!(".type: {of} is there twice")));
        }
        let mode = match (of, authorizer.webhook) {
            ("Webhook", Some(given)) => {
                Mode::Webhook(given.options(name, path).map_err(|why| at(format!(".webhook.{why}")))?)
            }
            ("Webhook", None) => return Err(at(".webhook: it is required".to_owned())),
            (_, Some(_)) => return Err(at(".webhook: it may only be there when the type is Webhook".to_owned())),
            ("Node", None) => Mode::Node,
            ("RBAC", None) => Mode::Rbac,
            ("AlwaysAllow", None) => Mode::AlwaysAllow,
            ("AlwaysDeny", None) => Mode::AlwaysDeny,
            (other, None) => {
                return Err(at(format!(".type: {other:?} is not one of AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook")));
            }
        };
        modes.push(mode);
    }
    Ok(modes)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<Authorizer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorizer {
    r#type: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: Option<String>,
    match_condition_subject_access_review_version: Option<String>,
    failure_policy: Option<String>,
    connection_info: Option<ConnectionInfo>,
    #[serde(default)]
    match_conditions: Vec<MatchCondition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConnectionInfo {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchCondition {
    expression: String,
}

impl Webhook {
    /// `file` is what relative paths start from.
    fn options(self, name: &str, file: &Path) -> Result<webhook::Options, String> {
        let connection = self.connection_info.ok_or("connectionInfo: it is required")?;
        let kubeconfig = match (connection.r#type.as_str(), connection.kube_config_file) {
            ("KubeConfigFile", Some(path)) => file.parent().unwrap_or(Path::new("")).join(path),
            ("KubeConfigFile", None) => return Err("connectionInfo.kubeConfigFile: it is required".to_owned()),
            ("InClusterConfig", _) => {
                return Err("connectionInfo.type: InClusterConfig has no effect here; name a kubeConfigFile".to_owned());
            }
            (other, _) => return Err(format!("connectionInfo.type: {other:?} is not KubeConfigFile")),
        };
        let mut options = webhook::Options::new(kubeconfig);
        options.name = name.to_owned();
        options.version = match self.subject_access_review_version.as_deref() {
            Some(version @ ("v1" | "v1beta1")) => version.to_owned(),
            other => return Err(format!("subjectAccessReviewVersion: {other:?} is neither v1 nor v1beta1")),
        };
        match self.match_condition_subject_access_review_version.as_deref() {
            Some("v1") => {}
            None if self.match_conditions.is_empty() => {}
            other => return Err(format!("matchConditionSubjectAccessReviewVersion: {other:?} is not v1")),
        }
        options.failure_policy = match self.failure_policy.as_deref() {
            Some("NoOpinion") => FailurePolicy::NoOpinion,
            Some("Deny") => FailurePolicy::Deny,
            other => return Err(format!("failurePolicy: {other:?} is neither NoOpinion nor Deny")),
        };
        options.timeout = duration("timeout", self.timeout)?.ok_or("timeout: it is required")?;
        if options.timeout.is_zero() || options.timeout > Duration::from_secs(30) {
            return Err("timeout: it must be more than 0s and at most 30s".to_owned());
        }
        let ttl = |kept: Option<bool>, given: Option<Duration>, default: Duration| match kept {
            Some(false) => Duration::ZERO,
            _ => given.unwrap_or(default),
        };
        let authorized = duration("authorizedTTL", self.authorized_ttl)?;
        options.authorized_ttl = ttl(self.cache_authorized_requests, authorized, options.authorized_ttl);
        let unauthorized = duration("unauthorizedTTL", self.unauthorized_ttl)?;
        options.unauthorized_ttl = ttl(self.cache_unauthorized_requests, unauthorized, options.unauthorized_ttl);
        options.match_conditions = self.match_conditions.into_iter().map(|condition| condition.expression).collect();
        Ok(options)
    }
}

fn duration(name: &str, text: Option<String>) -> Result<Option<Duration>, String> {
    let parse = |text: String| deadline::parse(&text).ok_or_else(|| format!("{name}: {text:?} is no duration"));
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: &str = "
- type: Webhook
  name: w.example
  webhook:
    authorizedTTL: 10s
    cacheUnauthorizedRequests: false
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: w.yaml}
    matchConditions: [{expression: has(request.resourceAttributes)}]
";

    fn parse(authorizers: &str) -> Result<Vec<Mode>, String> {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:";
        super::parse(Path::new("/etc/k3s/a.yaml"), &format!("{head}{authorizers}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_names_authorizers_in_their_order() {
        let modes = parse(&format!("{WEBHOOK}- {{type: Node, name: node}}\n- {{type: RBAC, name: rbac}}\n")).unwrap();
        let [Mode::Webhook(options), Mode::Node, Mode::Rbac] = modes.as_slice() else { panic!("{modes:?}") };
        assert_eq!(options.config_file, Path::new("/etc/k3s/w.yaml"));
        assert_eq!((options.authorized_ttl, options.unauthorized_ttl), (Duration::from_secs(10), Duration::ZERO));
        assert_eq!((options.failure_policy, options.match_conditions.len()), (FailurePolicy::Deny, 1));
    }

    #[test]
    fn what_would_be_decided_otherwise_than_is_written_is_refused() {
        for (authorizers, has) in [
            (" []".to_owned(), "at least one"),
            ("\n- {type: ABAC, name: a}".to_owned(), "authorizers[0].type: \"ABAC\" is not one of"),
            ("\n- {type: RBAC}".to_owned(), "authorizers[0].name: it is required"),
            ("\n- {type: RBAC, name: UPPER}".to_owned(), "authorizers[0].name"),
            (
                "\n- {type: RBAC, name: a}\n- {type: RBAC, name: b}".to_owned(),
                "authorizers[1].type: RBAC is there twice",
            ),
            ("\n- {type: RBAC, name: a, color: red}".to_owned(), "color"),
            (format!("{WEBHOOK}{WEBHOOK}"), "authorizers[1].name: \"w.example\" is there twice"),
            (WEBHOOK.replace("3s", "31s"), "webhook.timeout: it must be"),
            (WEBHOOK.replace("Deny", "Allow"), "webhook.failurePolicy"),
            (WEBHOOK.replace("KubeConfigFile,", "InClusterConfig,"), "webhook.connectionInfo.type: InClusterConfig"),
            (WEBHOOK.replace("AccessReviewVersion: v1\n", "AccessReviewVersion: v2\n"), "ReviewVersion: Some(\"v2\")"),
        ] {
            let error = parse(&authorizers).map(|_| ()).expect_err(has);
            assert!(error.contains(has), "{has:?} is not in: {error}");
        }
    }
}
