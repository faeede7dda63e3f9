//! Whether a webhook, a policy or a binding is about a request: rules, `matchPolicy` and selectors.

use std::sync::Arc;

use k3s_api::object;
use k3s_api::resource::Resource;
use k3s_api::selector::labels::Selector;
use k3s_api::status::Status;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Attributes, Operation};
use crate::registry::{Row, known};

/// A request and its objects, and the namespace it is in, which is read when it is first needed.
pub struct Subject<'a> {
    pub at: &'a Attributes<'a>,
    pub new: &'a Value,
    pub old: Option<&'a Value>,
    namespace: &'a Namespace,
}

/// The namespace of a request, read once.
pub type Namespace = OnceCell<Option<Arc<Value>>>;

impl<'a> Subject<'a> {
    pub fn new(at: &'a Attributes<'a>, new: &'a Value, old: Option<&'a Value>, namespace: &'a Namespace) -> Self {
        Self { at, new, old, namespace }
    }

    /// The namespace of the request, or the one it is about.
    ///
    /// # Errors
    /// 404 if it is not there.
    pub async fn namespace(&self) -> Result<Option<&Arc<Value>>, Status> {
        let read = || async {
            let at = self.at;
            if at.resource.group.is_empty() && at.resource.plural == "namespaces" {
                let own = if self.new.is_object() { Some(self.new) } else { self.old };
                return Ok(own.cloned().map(Arc::new));
            }
            if at.namespace.is_empty() {
                return Ok(None);
            }
            let entry = at.registry.get(known::namespaces(), "", at.namespace).await?;
            let entry = entry.ok_or_else(|| Status::not_found("", "namespaces", at.namespace))?;
            Ok::<_, Status>(Some(entry.value()?))
        };
        Ok(self.namespace.get_or_try_init(read).await?.as_ref())
    }
}

/// In which form a request is what the rules are about.
#[derive(Debug, Clone)]
pub enum Match {
    /// As it is.
    Own,
    /// In another version of the same objects (`matchPolicy: Equivalent`).
    Equivalent(Row),
}

/// What requests are meant.
#[derive(Debug)]
pub struct Matching {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether no rule at all means every request.
    open: bool,
    equivalent: bool,
    /// None: all.
    namespaces: Option<Selector>,
    objects: Option<Selector>,
}

/// Operations, groups, versions and resources, by name or `*`.
#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<(String, String)>,
    scope: Scope,
    /// Empty: all.
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Any,
    Namespaced,
    Cluster,
}

impl Matching {
    /// Of a webhook.
    pub fn of_webhook(hook: &Value) -> Self {
        Self::parse(hook, "rules", "", false)
    }

    /// Of a policy's `matchConstraints` or a binding's `matchResources`; absent ones exclude nothing.
    pub fn of_constraints(constraints: Option<&Value>) -> Self {
        Self::parse(constraints.unwrap_or(&Value::Null), "resourceRules", "excludeResourceRules", true)
    }

    fn parse(of: &Value, rules: &str, excluded: &str, open: bool) -> Self {
        let list = |name: &str| of.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // What cannot be read was refused when it was written; it selects nothing.
        let selector = |name: &str| match of.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(selector)) if selector.is_empty() => None,
            given => Some(Selector::from_label_selector(given).unwrap_or_else(|_| Selector::nothing())),
        };
        Self {
            rules: list(rules).iter().map(Rule::parse).collect(),
            excluded: list(excluded).iter().map(Rule::parse).collect(),
            open,
            equivalent: of.get("matchPolicy").is_none_or(|policy| policy != "Exact"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// In which form the request is meant, if it is.
    ///
    /// # Errors
    /// If its namespace is asked for and not there.
    pub async fn find(&self, subject: &Subject<'_>) -> Result<Option<Match>, Status> {
        let at = subject.at;
        let found = match self.rules.is_empty() && self.open {
            true => Match::Own,
            false => match self.first(&self.rules, at) {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        if self.first(&self.excluded, at).is_some() {
            return Ok(None);
        }
        if let Some(selector) = &self.objects {
            let selected = |object: &Value| object.is_object() && selector.matches(object::labels(object));
            if !selected(subject.new) && !subject.old.is_some_and(selected) {
                return Ok(None);
            }
        }
        if let Some(selector) = &self.namespaces
            && let Some(namespace) = subject.namespace().await?
            && !selector.matches(object::labels(namespace))
        {
            return Ok(None);
        }
        Ok(Some(found))
    }

    fn first(&self, rules: &[Rule], at: &Attributes<'_>) -> Option<Match> {
        if rules.iter().any(|rule| rule.matches(at, at.resource)) {
            return Some(Match::Own);
        }
        // Most resources have one version: then there is nothing to look for.
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = at.registry.equivalents(at.resource);
        let found = others.into_iter().find(|other| rules.iter().any(|rule| rule.matches(at, other)))?;
        Some(Match::Equivalent(found))
    }
}

impl Rule {
    fn parse(rule: &Value) -> Self {
        let words = |name: &str| -> Vec<String> {
            let list = rule.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |word: String| match word.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (word, String::new()),
        };
        Self {
            operations: words("operations"),
            groups: words("apiGroups"),
            versions: words("apiVersions"),
            resources: words("resources").into_iter().map(split).collect(),
            scope: match rule.get("scope").and_then(Value::as_str) {
                Some("Namespaced") => Scope::Namespaced,
                Some("Cluster") => Scope::Cluster,
                _ => Scope::Any,
            },
            names: words("resourceNames"),
        }
    }

    /// Whether the request is meant, if its objects were those of that resource.
    fn matches(&self, at: &Attributes<'_>, resource: &Resource) -> bool {
        let has = |words: &[String], wanted: &str| words.iter().any(|word| word == "*" || word == wanted);
        let scope = match self.scope {
            Scope::Any => true,
            Scope::Namespaced => resource.namespaced,
            Scope::Cluster => !resource.namespaced,
        };
        scope
            && has(&self.operations, at.operation.name())
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(|(name, subresource)| {
                (name == "*" || *name == resource.plural) && (subresource == "*" || subresource == at.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == at.name))
    }
}

impl Operation {
    /// As rules and requests name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}
