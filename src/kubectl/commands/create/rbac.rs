//! `kubectl create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`

use clap::Args;
use serde_json::{Map, Value, json};

use super::{CreateFlags, one_name, simple};
use crate::error::Error;
use crate::flags::Context;

const API: &str = "rbac.authorization.k8s.io/v1";

#[derive(Debug, Args)]
pub struct Role {
    /// NAME
    names: Vec<String>,
    /// Verb that applies to the resources contained in the rule
    #[arg(long, value_delimiter = ',')]
    verb: Vec<String>,
    /// Resource that the rule applies to
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Resource in the white list that the rule applies to
    #[arg(long)]
    resource_name: Vec<String>,
    /// A partial url that user should have access to (cluster roles)
    #[arg(long = "non-resource-url", value_delimiter = ',')]
    non_resource_url: Vec<String>,
    /// An aggregation label selector for combining cluster roles
    #[arg(long, value_delimiter = ',')]
    aggregation_rule: Vec<String>,
    #[command(flatten)]
    pub flags: CreateFlags,
}

#[derive(Debug, Args)]
pub struct Binding {
    /// NAME
    names: Vec<String>,
    /// ClusterRole this binding should reference
    #[arg(long = "clusterrole")]
    cluster_role: Option<String>,
    /// Role this binding should reference
    #[arg(long)]
    role: Option<String>,
    /// Usernames to bind to the role
    #[arg(long)]
    user: Vec<String>,
    /// Groups to bind to the role
    #[arg(long)]
    group: Vec<String>,
    /// Service accounts to bind to the role, in the format <namespace>:<name>
    #[arg(long = "serviceaccount")]
    service_account: Vec<String>,
    #[command(flatten)]
    pub flags: CreateFlags,
}

impl Role {
    pub async fn object(&self, context: &Context, kind: &str) -> Result<Value, Error> {
        let name = one_name(&self.names, &format!("create {}", kind.to_lowercase()))?;
        if !self.aggregation_rule.is_empty() {
            let mut labels = Map::new();
            for pair in &self.aggregation_rule {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                labels.insert(key.to_owned(), value.into());
            }
            let rule = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            return Ok(simple(API, kind, name, json!({"aggregationRule": rule, "rules": []})));
        }
        if self.verb.is_empty() {
            return Err(Error::usage("at least one verb must be specified"));
        }
        if self.resource.is_empty() && self.non_resource_url.is_empty() {
            return Err(Error::usage("at least one resource must be specified"));
        }
        // One rule per group, the groups in the order they are named.
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        if !self.resource.is_empty() {
            let cluster = context.cluster().await?;
            let discovery = cluster.discovery().await?;
            for word in &self.resource {
                let (word, subresource) =
                    word.split_once('/').map_or((word.as_str(), None), |(word, sub)| (word, Some(sub)));
                let (group, plural) = if word == "*" {
                    (String::new(), "*".to_owned())
                } else {
                    let resource = discovery.find(word)?;
                    (resource.group.clone(), resource.plural.clone())
                };
                let entry = match subresource {
                    Some(subresource) => format!("{plural}/{subresource}"),
                    None => plural,
                };
                match groups.iter_mut().find(|(own, _)| *own == group) {
                    Some((_, resources)) => resources.push(entry),
                    None => groups.push((group, vec![entry])),
                }
            }
        }
        let mut rules: Vec<Value> = Vec::new();
        for (group, resources) in groups {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": self.verb});
            if !self.resource_name.is_empty() {
                rule["resourceNames"] = json!(self.resource_name);
            }
            rules.push(rule);
        }
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": self.verb}));
        }
        Ok(simple(API, kind, name, json!({"rules": rules})))
    }
}

impl Binding {
    pub async fn object(&self, context: &Context, kind: &str) -> Result<Value, Error> {
        let name = one_name(&self.names, &format!("create {}", kind.to_lowercase()))?;
        let role = match (&self.cluster_role, &self.role) {
            (Some(role), None) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}),
            (None, Some(role)) if kind == "RoleBinding" => {
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role})
            }
            (None, _) if kind == "ClusterRoleBinding" => {
                return Err(Error::usage("required flag(s) \"clusterrole\" not set"));
            }
            _ => return Err(Error::usage("exactly one of clusterrole or role must be specified")),
        };
        let person =
            |kind: &str, name: &String| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let mut subjects: Vec<Value> = self.user.iter().map(|name| person("User", name)).collect();
        subjects.extend(self.group.iter().map(|name| person("Group", name)));
        for account in &self.service_account {
            let (namespace, name) = account
                .split_once(':')
                .filter(|(ns, name)| !ns.is_empty() && !name.is_empty())
                .ok_or_else(|| Error::usage("serviceaccount must be <namespace>:<name>"))?;
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        let mut object = simple(API, kind, name, json!({"roleRef": role, "subjects": subjects}));
        if kind == "RoleBinding"
            && let Some(namespace) = &context.flags.namespace
        {
            k3s_api::object::set_metadata(&mut object, "namespace", namespace);
        }
        Ok(object)
    }
}
