//! JSON merge patch (RFC 7396): members replace, `null` removes, lists are replaced whole.

use serde_json::Value;

use crate::status::Status;
use crate::syntax;

/// The object merged with the patch in `body`. A body that is no JSON object is a bad request.
pub fn apply(current: &Value, body: &[u8]) -> Result<Value, Status> {
    let patch = syntax::parse(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if !patch.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            syntax::type_name(&patch)
        )));
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
