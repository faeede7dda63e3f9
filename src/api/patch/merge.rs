//! JSON merge patch (RFC 7396): members replace, `null` removes, lists are replaced whole.
//!
//! As in the library that Kubernetes uses, `null` is also dropped from the objects in a list that is new or replaces
//! another.

use serde_json::{Map, Value};

use super::{parse, wrong_type};
use crate::decode;
use crate::status::Status;

/// The object merged with the patch in `body`. A body that is no JSON object or list is a bad request; a list replaces
/// the object, which then is none of its kind.
pub fn apply(current: &Value, body: &[u8]) -> Result<Value, Status> {
    match parse(body) {
        Ok(Value::Object(patch)) => Ok(Value::Object(merge(current.as_object().cloned().unwrap_or_default(), patch))),
        Ok(list @ Value::Array(_)) => Ok(pruned(list)),
        _ => Err(Status::bad_request("Invalid JSON Patch")),
    }
}

/// What a strict reading has to say of the patch: duplicate fields.
///
/// # Errors
/// 400 if it is no JSON object.
pub(super) fn complaints(body: &[u8]) -> Result<Vec<String>, Status> {
    let refuse = |error: String| Status::bad_request(format!("error decoding patch: {error}"));
    match parse(body).map_err(refuse)? {
        Value::Object(_) | Value::Null => Ok(decode::duplicates(body)),
        other => Err(refuse(wrong_type(&other, "map[string]interface {}"))),
    }
}

/// The paths of the objects that a patch is merged into.
pub(super) fn looked_into(current: &Value, body: &[u8]) -> Vec<Vec<String>> {
    fn find(current: &Value, patch: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        let (Value::Object(current), Value::Object(patch)) = (current, patch) else { return };
        found.push(path.clone());
        for (name, patch) in patch {
            if let Some(current) = current.get(name) {
                path.push(name.clone());
                find(current, patch, path, found);
                path.pop();
            }
        }
    }
    let mut found = Vec::new();
    find(current, &parse(body).unwrap_or_default(), &mut Vec::new(), &mut found);
    found
}

fn merge(mut current: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in patch {
        let merged = match (current.remove(&name), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(current)), Value::Object(patch)) => Value::Object(merge(current, patch)),
            // What takes the place of an object is taken as it is.
            (Some(Value::Object(_)), value) => value,
            (_, value) => pruned(value),
        };
        current.insert(name, merged);
    }
    current
}

/// A value without the fields that are null.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, pruned(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_replace_and_null_removes() {
        let current = json!({"data": {"a": "1", "b": "2"}, "list": [1, 2]});
        assert_eq!(
            apply(
                &current,
                br#"{"data": {"a": null, "new": "v"}, "list": [{"x": null, "y": 1}], "gone": {"x": null}}"#
            ),
            Ok(json!({"data": {"b": "2", "new": "v"}, "list": [{"y": 1}], "gone": {}}))
        );
        assert_eq!(apply(&current, b"[]"), Ok(json!([])));
        for body in ["null", "1", "{"] {
            let refused = apply(&current, body.as_bytes()).map_err(|status| (status.code, status.message));
            assert_eq!(refused, Err((400, "Invalid JSON Patch".to_owned())));
        }
    }

    #[test]
    fn a_strict_reading_tells_duplicates_and_wrong_types() {
        assert_eq!(
            complaints(br#"{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": 1}]}"#),
            Ok(vec!["duplicate field \"a.b\"".to_owned(), "duplicate field \"c[0].d\"".to_owned()])
        );
        for (body, error) in [
            ("{", "unexpected end of JSON input"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ] {
            let message = complaints(body.as_bytes()).map_err(|status| status.message);
            assert_eq!(message, Err(format!("error decoding patch: {error}")));
        }
    }
}
