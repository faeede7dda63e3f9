//! `ConversionReview`: what a conversion webhook is asked, and what it may answer.

use k3s_api::object;
use k3s_api::quote::quote;
use serde_json::{Value, json};

use crate::relay::review_version::ReviewVersion;

/// Of the reviews.
const GROUP: &str = "apiextensions.k8s.io";

/// The review that asks for objects in another version.
pub fn ask(version: ReviewVersion, uid: &str, wanted: &str, objects: Vec<Value>) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": version.api_version(GROUP),
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    })
}

/// The converted objects.
///
/// # Errors
/// What is wrong with the answer, or why the webhook did not convert them.
pub fn read(mut review: Value, version: ReviewVersion, uid: &str) -> Result<Vec<Value>, String> {
    let (of, kind) = (object::api_version(&review).to_owned(), object::kind(&review).to_owned());
    let Some(response) = review.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if version == ReviewVersion::V1 {
        let given = text(&response["uid"]);
        if given != uid {
            return Err(format!("expected response.uid={}, got {}", quote(uid), quote(&given)));
        }
        let expected = version.api_version(GROUP);
        if of != expected || kind != "ConversionReview" {
            return Err(format!(
                "expected webhook response of {expected}, Kind=ConversionReview, got {of}, Kind={kind}"
            ));
        }
    }
    let (status, message) = (text(&response["result"]["status"]), text(&response["result"]["message"]));
    match (status.as_str(), message.is_empty()) {
        ("Success", _) => {}
        (_, false) => return Err(message),
        (status, true) => return Err(format!("response.result.status was '{status}', not 'Success'")),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What a conversion must not change, and did.
pub fn difference(old: &Value, new: &Value, wanted: &str) -> Option<String> {
    let version = object::api_version(new);
    if version != wanted {
        return Some(format!("invalid groupVersion (expected {wanted}, received {version})"));
    }
    let parts = [
        ("kind", object::kind(old), object::kind(new)),
        ("name", object::name(old), object::name(new)),
        ("namespace", object::namespace(old), object::namespace(new)),
        ("UID", object::uid(old), object::uid(new)),
    ];
    let (what, old, new) = parts.into_iter().find(|(_, old, new)| old != new)?;
    Some(format!("must have the same {what}: {old} != {new}"))
}

/// The converted object with its metadata as they were: only labels and annotations are the webhook's to change.
pub fn with_metadata_of(old: &Value, mut new: Value) -> Value {
    let given = new["metadata"].take();
    new["metadata"] = old["metadata"].clone();
    let metadata = object::metadata_mut(&mut new);
    for field in ["labels", "annotations"] {
        match given.get(field).filter(|given| given.is_object()) {
            Some(given) => drop(metadata.insert(field.to_owned(), given.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(response: Value) -> Result<Vec<Value>, String> {
        let (kind, of) = ("ConversionReview", "apiextensions.k8s.io/v1");
        read(json!({"kind": kind, "apiVersion": of, "response": response}), ReviewVersion::V1, "u")
    }

    #[test]
    fn an_answer_must_say_that_it_succeeded() {
        for (response, error) in [
            (Value::Null, "no response provided"),
            (json!({"uid": "x"}), "expected response.uid=\"u\", got \"x\""),
            (json!({"uid": "u"}), "response.result.status was '', not 'Success'"),
            (json!({"uid": "u", "result": {"status": "Failure", "message": "can't"}}), "can't"),
        ] {
            assert_eq!(answered(response).expect_err(error), error);
        }
        let converted = answered(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(converted, Ok(vec![json!({})]));
    }

    #[test]
    fn what_identifies_an_object_stays() {
        let old = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "uid": "u", "generation": 3}});
        let new = |name: &str| json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": name, "uid": "u", "labels": {"a": "b"}}});
        assert_eq!(difference(&old, &new("n"), "g/v2"), None);
        assert_eq!(difference(&old, &new("x"), "g/v2").as_deref(), Some("must have the same name: n != x"));
        let wrong = difference(&old, &new("n"), "g/v3");
        assert_eq!(wrong.as_deref(), Some("invalid groupVersion (expected g/v3, received g/v2)"));
        let kept = with_metadata_of(&old, new("n"));
        assert_eq!(kept["metadata"], json!({"name": "n", "uid": "u", "generation": 3, "labels": {"a": "b"}}));
    }
}
