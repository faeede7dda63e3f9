//! `AdmissionReview`: what a webhook is asked, and what it may answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k3s_api::object;
use k3s_api::quote::quote;
use serde_json::{Map, Value, json};

use super::super::request;
use crate::admission::Attributes;
use crate::relay::review_version::ReviewVersion;

/// Of the reviews.
const GROUP: &str = "admission.k8s.io";

/// What a webhook said.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    /// Its `Status`, of a refusal.
    pub result: Option<Value>,
    /// A JSON patch, as text.
    pub patch: Vec<u8>,
    pub patch_type: Option<String>,
    pub warnings: Vec<String>,
    pub audit_annotations: Vec<(String, String)>,
}

/// The review that asks about a request. `description` is the request without its objects.
pub fn ask(
    at: &Attributes<'_>,
    version: ReviewVersion,
    uid: &str,
    description: &Value,
    new: &Value,
    old: Option<&Value>,
) -> Value {
    let mut request = description.clone();
    // In Go's JSON what is empty is not there.
    if let Some(fields) = request.as_object_mut() {
        without_empty(fields, &["subResource", "requestSubResource", "name", "namespace"]);
        if let Some(user) = fields.get_mut("userInfo").and_then(Value::as_object_mut) {
            without_empty(user, &["username", "uid", "groups", "extra"]);
        }
    }
    request["uid"] = uid.into();
    request["object"] = new.clone();
    request["oldObject"] = old.cloned().unwrap_or_default();
    request["options"] = request::options(at);
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(GROUP), "request": request})
}

fn without_empty(fields: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        let empty = match fields.get(*name) {
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            _ => false,
        };
        if empty {
            fields.remove(*name);
        }
    }
}

impl Answer {
    /// Reads what came back for the review of that uid.
    ///
    /// # Errors
    /// What is wrong with it, in Kubernetes' words.
    pub fn read(review: &Value, version: ReviewVersion, uid: &str, mutating: bool) -> Result<Self, String> {
        let Some(response) = review.get("response").filter(|response| response.is_object()) else {
            return Err("webhook response was absent".to_owned());
        };
        let text = |name: &str| response.get(name).and_then(Value::as_str).unwrap_or_default();
        let patch = STANDARD.decode(text("patch")).map_err(|error| format!("illegal base64 data: {error}"))?;
        let patch_type = response.get("patchType").and_then(Value::as_str).map(str::to_owned);
        if version == ReviewVersion::V1 {
            if text("uid") != uid {
                return Err(format!("expected response.uid={}, got {}", quote(uid), quote(text("uid"))));
            }
            let (of, kind) = (object::api_version(review), object::kind(review));
            if of != version.api_version(GROUP) || kind != "AdmissionReview" {
                let expected = version.api_version(GROUP);
                let of = if of.is_empty() { "/" } else { of };
                return Err(format!(
                    "expected webhook response of {expected}, Kind=AdmissionReview, got {of}, Kind={kind}"
                ));
            }
            match (mutating, patch.is_empty(), patch_type.as_deref()) {
                (false, false, _) => return Err("validating webhook may not return response.patch".to_owned()),
                (false, true, Some(_)) => return Err("validating webhook may not return response.patchType".to_owned()),
                (true, false, None) => {
                    return Err("webhook returned response.patch but not response.patchType".to_owned());
                }
                (true, true, Some(_)) => {
                    return Err("webhook returned response.patchType but not response.patch".to_owned());
                }
                (true, false, Some("")) => {
                    return Err("webhook returned invalid response.patchType of \"\"".to_owned());
                }
                _ => {}
            }
        }
        let list = |name: &str| response.get(name).and_then(Value::as_array).into_iter().flatten();
        let annotations = response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten();
        Ok(Self {
            allowed: response.get("allowed") == Some(&Value::Bool(true)),
            // "status" was its name once.
            result: ["status", "result"].iter().find_map(|name| response.get(*name)).filter(|r| r.is_object()).cloned(),
            patch,
            patch_type: patch_type.or((version == ReviewVersion::V1beta1).then(|| "JSONPatch".to_owned())),
            warnings: list("warnings").filter_map(Value::as_str).map(str::to_owned).collect(),
            audit_annotations: annotations
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, response: Value) -> Result<Answer, String> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        Answer::read(&review, ReviewVersion::V1, "u", mutating)
    }

    #[test]
    fn an_answer_must_be_to_the_question() {
        for (mutating, response, error) in [
            (true, Value::Null, "webhook response was absent"),
            (true, json!({"uid": "x"}), "expected response.uid=\"u\", got \"x\""),
            (true, json!({"uid": "u", "patch": "W10="}), "webhook returned response.patch but not response.patchType"),
            (
                true,
                json!({"uid": "u", "patchType": "JSONPatch"}),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                false,
                json!({"uid": "u", "patch": "W10=", "patchType": "JSONPatch"}),
                "validating webhook may not return response.patch",
            ),
        ] {
            assert_eq!(read(mutating, response).expect_err(error), error);
        }
        let of_another_kind = json!({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}});
        assert_eq!(
            Answer::read(&of_another_kind, ReviewVersion::V1, "u", true).expect_err("no review"),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"
        );
        assert!(Answer::read(&of_another_kind, ReviewVersion::V1beta1, "other", true).is_ok());
    }

    #[test]
    fn an_answer_is_read_whole() {
        let answer = read(
            true,
            json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch", "warnings": ["w"],
                "auditAnnotations": {"k": "v"}, "status": {"message": "m"}}),
        );
        let answer = answer.expect("an answer");
        assert!(answer.allowed);
        assert_eq!((answer.patch.as_slice(), answer.patch_type.as_deref()), (&b"[]"[..], Some("JSONPatch")));
        assert_eq!(answer.result, Some(json!({"message": "m"})));
        assert_eq!(answer.warnings, ["w"]);
        assert_eq!(answer.audit_annotations, [("k".to_owned(), "v".to_owned())]);
    }
}
