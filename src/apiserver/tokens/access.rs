//! May he? The four access reviews of `authorization.k8s.io`.

use http::{Response, StatusCode};
use k3s_api::object;
use k3s_api::status::{Status, aggregate};
use k3s_api::validation::{FieldError, Path, Verbatim};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::subject;
use crate::authorization::{Attributes, Opinion, Rule};
use crate::call::Call;
use crate::negotiate::Format;
use crate::{Body, response};

/// The status of a `SubjectAccessReview`, `LocalSubjectAccessReview` or `SelfSubjectAccessReview`.
///
/// # Errors
/// 422 if it does not ask exactly one thing about somebody; 400 for a namespace that is not the review's.
pub(super) async fn answer(call: &Call, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let about_self = call.row.plural == "selfsubjectaccessreviews";
    check(call, spec, about_self)?;
    if call.row.plural == "localsubjectaccessreviews" {
        check_local(review)?;
    }
    let user = if about_self { call.user.clone() } else { subject(spec) };
    let [label_selector, field_selector] = ["labelSelector", "fieldSelector"].map(|field| selector(spec, field));
    let asked = Attributes { label_selector: &label_selector, field_selector: &field_selector, ..asked(spec) };
    let decision = call.server.authorizer().authorize(call.registry(), &user, asked).await?;
    let mut status = Map::from_iter([("allowed".to_owned(), json!(decision.is_allowed()))]);
    if decision.opinion == Opinion::Deny {
        status.insert("denied".to_owned(), json!(true));
    }
    if !decision.reason.is_empty() {
        status.insert("reason".to_owned(), json!(decision.reason));
    }
    if let Some(error) = decision.error {
        status.insert("evaluationError".to_owned(), json!(error));
    }
    Ok(Value::Object(status))
}

/// A selector of the resources that are asked about, as requests write it.
fn selector(spec: &Value, field: &str) -> String {
    let selector = &spec["resourceAttributes"][field];
    if let Some(raw) = selector["rawSelector"].as_str().filter(|raw| !raw.is_empty()) {
        return raw.to_owned();
    }
    let of_fields = field == "fieldSelector";
    let requirement = |requirement: &Value| {
        let key = requirement["key"].as_str()?;
        let values: Vec<&str> =
            requirement["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match (requirement["operator"].as_str()?, values.as_slice()) {
            ("In", [value]) => Some(format!("{key}={value}")),
            ("NotIn", [value]) => Some(format!("{key}!={value}")),
            ("In", values) if !of_fields => Some(format!("{key} in ({})", values.join(","))),
            ("NotIn", values) if !of_fields => Some(format!("{key} notin ({})", values.join(","))),
            ("Exists", []) if !of_fields => Some(key.to_owned()),
            ("DoesNotExist", []) if !of_fields => Some(format!("!{key}")),
            // Fewer conditions ask for more rights, never for fewer.
            _ => None,
        }
    };
    let requirements = selector["requirements"].as_array().into_iter().flatten().filter_map(requirement);
    requirements.collect::<Vec<_>>().join(",")
}

fn asked(spec: &Value) -> Attributes<'_> {
    fn part<'a>(attributes: &'a Value, field: &str) -> &'a str {
        attributes[field].as_str().unwrap_or_default()
    }
    match spec.get("resourceAttributes").filter(|attributes| !attributes.is_null()) {
        Some(resource) => Attributes {
            is_resource: true,
            verb: part(resource, "verb"),
            group: part(resource, "group"),
            version: part(resource, "version"),
            resource: part(resource, "resource"),
            subresource: part(resource, "subresource"),
            namespace: part(resource, "namespace"),
            name: part(resource, "name"),
            ..Attributes::default()
        },
        None => {
            let url = &spec["nonResourceAttributes"];
            Attributes { verb: part(url, "verb"), path: part(url, "path"), ..Attributes::default() }
        }
    }
}

fn check(call: &Call, spec: &Value, about_self: bool) -> Result<(), Status> {
    let path = Path::new("spec");
    let given = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    let mut errors = Vec::new();
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            Verbatim(spec["nonResourceAttributes"].to_string()),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Verbatim("null".to_owned()),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = spec["user"].as_str().unwrap_or_default().is_empty()
        && spec["groups"].as_array().is_none_or(|groups| groups.is_empty());
    if !about_self && nobody {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", detail));
    }
    refuse(call, errors)
}

fn check_local(review: &Value) -> Result<(), Status> {
    let namespace = review["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
    if namespace == object::namespace(review) {
        return Ok(());
    }
    let message =
        format!("spec.resourceAttributes.namespace must match namespace: {namespace} != {}", object::namespace(review));
    Err(Status::bad_request(message))
}

fn refuse(call: &Call, errors: Vec<FieldError>) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        // Kubernetes forgets to name the kind here.
        false => Err(Status::invalid(&call.row.group, "", "", errors.into_iter().map(Into::into).collect())),
    }
}

/// The answer to a `SelfSubjectRulesReview`. Its fields are in Go's order, by which some readers sort the rules.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulesReview<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Map<String, Value>,
    spec: Map<String, Value>,
    status: RulesStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulesStatus<'a> {
    resource_rules: Vec<&'a Rule>,
    non_resource_rules: Vec<&'a Rule>,
    incomplete: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    evaluation_error: String,
}

/// Answers a `SelfSubjectRulesReview`: what the user may do in a namespace.
///
/// # Errors
/// 400 without a namespace.
pub(super) async fn rules(call: &Call, review: &Value) -> Result<Response<Body>, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, errors) = call.server.authorizer().list(call.registry(), &call.user, namespace).await?;
    let (urls, resources): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let answer = RulesReview {
        kind: "SelfSubjectRulesReview",
        api_version: "authorization.k8s.io/v1",
        metadata: Map::new(),
        spec: Map::new(),
        status: RulesStatus {
            resource_rules: resources,
            non_resource_rules: urls,
            incomplete: !errors.is_empty(),
            evaluation_error: if errors.is_empty() { String::new() } else { aggregate(&errors) },
        },
    };
    if call.accept.format == Format::Json {
        return Ok(response::json(StatusCode::CREATED, serde_json::to_vec(&answer).map_err(Status::internal)?));
    }
    call.value(StatusCode::CREATED, &serde_json::to_value(&answer).map_err(Status::internal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_reviews_are_those_of_requests() {
        let spec = json!({"resourceAttributes": {
            "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["x"]},
                {"key": "b", "operator": "NotIn", "values": ["x", "y"]}, {"key": "c", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist"}, {"key": "e", "operator": "Near"}]},
            "fieldSelector": {"rawSelector": "spec.nodeName=n"}}});
        assert_eq!(selector(&spec, "labelSelector"), "a=x,b notin (x,y),c,!d");
        assert_eq!(selector(&spec, "fieldSelector"), "spec.nodeName=n");
        assert_eq!(selector(&json!({}), "fieldSelector"), "");
    }
}
