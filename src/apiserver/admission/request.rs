//! The request as webhooks and expressions see it: an `AdmissionRequest`.

use k3s_api::cel::library::authorizer::Question;
use k3s_api::object;
use k3s_api::resource::Resource;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::options::{DeleteOptions, Propagation};

/// Group, version and kind of what a resource or its subresource is written as.
pub struct Kind<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl<'a> Kind<'a> {
    /// Of a resource; `Scale` and the like for subresources that are of another kind.
    pub fn of(resource: &'a Resource, subresource: &str) -> Self {
        match resource.subresource(subresource) {
            Some(part) => Self { group: &part.group, version: &part.version, kind: &part.kind },
            None => Self { group: &resource.group, version: &resource.version, kind: &resource.kind },
        }
    }

    /// Whether it is the resource's own kind: the object itself, or its status.
    pub fn is_own(resource: &Resource, subresource: &str) -> bool {
        resource.subresource(subresource).is_none_or(|part| part.kind == resource.kind)
    }

    fn to_value(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}

/// An `AdmissionRequest` without its objects. `matched` is the resource in the version that the rules are about.
pub fn describe(at: &Attributes<'_>, matched: &Resource, new: &Value, old: Option<&Value>) -> Value {
    let resource = |of: &Resource| json!({"group": of.group, "version": of.version, "resource": of.plural});
    let names = [at.name, object::name(new)];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    // A namespace is said to be in itself.
    let is_namespace = at.resource.group.is_empty() && at.resource.plural == "namespaces";
    let namespace = match is_namespace {
        true if name.is_empty() => old.map_or("", object::name),
        true => name,
        false => at.namespace,
    };
    json!({
        "kind": Kind::of(matched, at.subresource).to_value(),
        "requestKind": Kind::of(at.resource, at.subresource).to_value(),
        "resource": resource(matched), "requestResource": resource(at.resource),
        "subResource": at.subresource, "requestSubResource": at.subresource, "name": name,
        "namespace": namespace, "operation": at.operation.name(), "dryRun": at.dry_run,
        "userInfo": {"username": at.user.name, "uid": at.user.uid, "groups": at.user.groups, "extra": at.user.extra},
    })
}

/// The options of the request, as an object of the operation's kind. Null for a connection.
pub fn options(at: &Attributes<'_>) -> Value {
    let kind = match at.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    if at.dry_run {
        options.insert("dryRun".to_owned(), json!(["All"]));
    }
    match (at.delete_options, at.query) {
        (Some(given), _) => deletion(given, &mut options),
        (None, Some(query)) => {
            for name in ["fieldManager", "fieldValidation"] {
                if let Some(value) = query.get(name).filter(|value| !value.is_empty()) {
                    options.insert(name.to_owned(), value.into());
                }
            }
        }
        (None, None) => {}
    }
    Value::Object(options)
}

fn deletion(given: &DeleteOptions, options: &mut Map<String, Value>) {
    if let Some(seconds) = given.grace_period_seconds {
        options.insert("gracePeriodSeconds".to_owned(), seconds.into());
    }
    if let Some(propagation) = given.propagation {
        let name = match propagation {
            Propagation::Foreground => "Foreground",
            Propagation::Background => "Background",
            Propagation::Orphan => "Orphan",
        };
        options.insert("propagationPolicy".to_owned(), name.into());
    }
    let mut preconditions = Map::new();
    for (name, value) in [("uid", &given.uid), ("resourceVersion", &given.resource_version)] {
        if let Some(value) = value {
            preconditions.insert(name.to_owned(), value.as_str().into());
        }
    }
    if !preconditions.is_empty() {
        options.insert("preconditions".to_owned(), Value::Object(preconditions));
    }
}

/// The question of whether the user may do something with the request's own resource.
pub fn own_resource(at: &Attributes<'_>) -> Question {
    Question {
        group: at.resource.group.to_string(),
        resource: at.resource.plural.to_string(),
        subresource: at.subresource.to_owned(),
        namespace: at.namespace.to_owned(),
        name: at.name.to_owned(),
        ..Question::default()
    }
}
