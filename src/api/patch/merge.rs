//! JSON merge patch (RFC 7396): members replace, `null` removes, lists are replaced whole.

use serde_json::Value;

use super::{parse, wrong_type};
use crate::status::Status;

/// The object merged with the patch in `body`. A body that is no JSON object is a bad request.
pub fn apply(current: &Value, body: &[u8]) -> Result<Value, Status> {
    let patch = parse(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if !patch.is_object() {
        let error = wrong_type(&patch, "map[string]interface {}");
        return Err(Status::bad_request(format!("error decoding patch: {error}")));
    }
    let mut merged = current.clone();
    json_patch::merge(&mut merged, &patch);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_replace_and_null_removes() {
        let current = json!({"data": {"a": "1", "b": "2"}, "list": [1, 2]});
        assert_eq!(
            apply(&current, br#"{"data": {"a": null, "new": "v"}, "list": [3], "gone": {"x": null}}"#),
            Ok(json!({"data": {"b": "2", "new": "v"}, "list": [3], "gone": {}}))
        );
        assert_eq!(apply(&current, b"[]").map_err(|status| status.code), Err(400));
        assert_eq!(
            apply(&current, b"{").map_err(|status| status.message),
            Err("error decoding patch: unexpected end of JSON input".to_owned())
        );
    }
}
