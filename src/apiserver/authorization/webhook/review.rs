//! The question and the answer: `SubjectAccessReview` of `authorization.k8s.io`.

use k3s_api::authentication::UserInfo;
use k3s_api::selector::labels::Operator;
use k3s_api::selector::{fields, labels};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::authorization::{Attributes, Decision, Opinion};

/// A version of the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// None if it is another one.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }
}

/// May this user do that?
pub(super) fn question(version: Version, user: &UserInfo, asked: &Attributes<'_>) -> Value {
    let (name, groups) = match version {
        Version::V1 => ("v1", "groups"),
        Version::V1beta1 => ("v1beta1", "group"),
    };
    let mut spec = Map::new();
    let (field, attributes) = attributes(asked);
    spec.insert(field.to_owned(), Value::Object(attributes));
    put(&mut spec, "user", &user.name);
    put(&mut spec, "uid", &user.uid);
    if !user.groups.is_empty() {
        spec.insert(groups.to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    json!({
        "kind": "SubjectAccessReview",
        "apiVersion": format!("authorization.k8s.io/{name}"),
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": {"allowed": false},
    })
}

fn put(map: &mut Map<String, Value>, field: &str, text: &str) {
    if !text.is_empty() {
        map.insert(field.to_owned(), text.into());
    }
}

fn attributes(asked: &Attributes<'_>) -> (&'static str, Map<String, Value>) {
    let mut map = Map::new();
    put(&mut map, "verb", asked.verb);
    if !asked.is_resource {
        put(&mut map, "path", asked.path);
        return ("nonResourceAttributes", map);
    }
    for (field, text) in [
        ("namespace", asked.namespace),
        ("group", asked.group),
        ("version", asked.version),
        ("resource", asked.resource),
        ("subresource", asked.subresource),
        ("name", asked.name),
    ] {
        put(&mut map, field, text);
    }
    // Selectors that can't be read say nothing; the request itself will be refused for them.
    let labels = asked.label_selector.parse().map(|selector| of_labels(&selector)).unwrap_or_default();
    let fields = asked.field_selector.parse().map(|selector| of_fields(&selector)).unwrap_or_default();
    for (field, requirements) in [("labelSelector", labels), ("fieldSelector", fields)] {
        if !requirements.is_empty() {
            map.insert(field.to_owned(), json!({"requirements": requirements}));
        }
    }
    ("resourceAttributes", map)
}

fn of_labels(selector: &labels::Selector) -> Vec<Value> {
    let requirement = |of: &labels::Requirement| {
        let operator = match of.operator() {
            Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
            Operator::NotIn | Operator::NotEquals => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            // The API has no words for these: fewer conditions ask for more rights, never for fewer.
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        let values: Vec<&str> = of.values().collect();
        let mut requirement = json!({"key": of.key(), "operator": operator});
        if !values.is_empty() {
            requirement["values"] = json!(values);
        }
        Some(requirement)
    };
    selector.requirements().iter().filter_map(requirement).collect()
}

fn of_fields(selector: &fields::Selector) -> Vec<Value> {
    let requirement = |term: &fields::Term| {
        let operator = if term.not { "NotIn" } else { "In" };
        json!({"key": term.field, "operator": operator, "values": [term.value]})
    };
    selector.terms().iter().map(requirement).collect()
}

#[derive(Debug, Deserialize)]
struct Answer {
    kind: String,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
    evaluation_error: String,
}

/// What the answer says.
///
/// # Errors
/// In words, if it is no review, or says yes and no.
pub(super) fn answer(review: Value) -> Result<Decision, String> {
    let Answer { kind, status } =
        Answer::deserialize(review).map_err(|error| format!("the answer is no SubjectAccessReview: {error}"))?;
    if kind != "SubjectAccessReview" {
        return Err(format!("the answer is no SubjectAccessReview but a {kind:?}"));
    }
    let opinion = match (status.allowed, status.denied) {
        (true, true) => return Err("webhook subject access review returned both allow and deny response".to_owned()),
        (true, false) => Opinion::Allow,
        (false, true) => Opinion::Deny,
        (false, false) => Opinion::None,
    };
    if !status.evaluation_error.is_empty() {
        tracing::debug!(error = status.evaluation_error, "an authorization webhook had trouble");
    }
    Ok(Decision { opinion, reason: status.reason, error: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_all_that_is_known() {
        let mut user = UserInfo::new("jane", &["devs"]);
        user.extra.insert("scopes".to_owned(), vec!["a".to_owned()]);
        let asked = Attributes {
            verb: "list",
            is_resource: true,
            version: "v1",
            resource: "pods",
            namespace: "a",
            label_selector: "app=web,tier!=db,x,!y,n>3",
            field_selector: "spec.nodeName=n1,status.phase!=Failed",
            ..Attributes::default()
        };
        let review = question(Version::V1, &user, &asked);
        assert_eq!(review["apiVersion"], "authorization.k8s.io/v1");
        assert_eq!(
            review["spec"],
            json!({"user": "jane", "groups": ["devs", "system:authenticated"], "extra": {"scopes": ["a"]}, "resourceAttributes": {
                "verb": "list", "version": "v1", "resource": "pods", "namespace": "a",
                "labelSelector": {"requirements": [
                    {"key": "app", "operator": "In", "values": ["web"]},
                    {"key": "tier", "operator": "NotIn", "values": ["db"]},
                    {"key": "x", "operator": "Exists"}, {"key": "y", "operator": "DoesNotExist"}]},
                "fieldSelector": {"requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                    {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]}]}}})
        );
        let url = Attributes { verb: "get", path: "/healthz", ..Attributes::default() };
        let review = question(Version::V1beta1, &UserInfo::new("joe", &["ops"]), &url);
        assert_eq!(
            review["spec"],
            json!({"user": "joe", "group": ["ops", "system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/healthz"}})
        );
    }

    #[test]
    fn an_answer_allows_denies_or_leaves_it_to_others() {
        let answer = |status: Value| answer(json!({"kind": "SubjectAccessReview", "status": status}));
        assert_eq!(answer(json!({"allowed": true, "reason": "r"})), Ok(Decision::allow("r")));
        assert_eq!(answer(json!({"allowed": false, "denied": true})).unwrap().opinion, Opinion::Deny);
        assert_eq!(answer(json!({"allowed": false, "reason": "r"})), Ok(Decision::none("r")));
        assert!(answer(json!({"allowed": true, "denied": true})).unwrap_err().contains("both allow and deny"));
        assert!(answer(json!({"allowed": "yes"})).is_err());
        assert!(super::answer(json!({"status": {"allowed": true}})).is_err());
        assert!(super::answer(json!({"kind": "Status", "status": "Failure"})).is_err());
        assert!(super::answer(json!({"kind": "Pod", "status": {"allowed": true}})).is_err());
    }
}
