//! JSON patch (RFC 6902).

use serde_json::Value;

use super::{parse, wrong_type};
use crate::status::{Reason, Status};

/// More operations than these are refused.
const MAX_OPERATIONS: usize = 10_000;

/// The object with the operations of `body` done, all or none.
///
/// A body that is no list of operations is a bad request (400); operations that cannot be done are an invalid one (422),
/// for which Kubernetes does not say why.
pub fn apply(current: &Value, body: &[u8]) -> Result<Value, Status> {
    let operations = match parse(body).map_err(Status::bad_request)? {
        Value::Array(operations) => operations,
        other => return Err(not_operations(&other, "jsonpatch.Patch")),
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(not_operations(other, "jsonpatch.Operation"));
    }
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations)).map_err(|_| rejected())?;
    let mut patched = current.clone();
    json_patch::patch(&mut patched, &patch).map_err(|_| rejected())?;
    Ok(patched)
}

fn not_operations(value: &Value, wanted: &str) -> Status {
    Status::bad_request(wrong_type(value, wanted))
}

fn rejected() -> Status {
    Status {
        code: 422,
        reason: Some(Reason::Invalid),
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(body: Value) -> Result<Value, Status> {
        apply(&json!({"data": {"a": "1", "b": "2", "x/y": "s"}, "list": [1, 2]}), body.to_string().as_bytes())
    }

    #[test]
    fn does_all_operations() {
        let body = json!([
            {"op": "add", "path": "/data/c", "value": "3"}, {"op": "replace", "path": "/data/a", "value": "9"},
            {"op": "test", "path": "/data/b", "value": "2"}, {"op": "move", "from": "/data/b", "path": "/data/bb"},
            {"op": "copy", "from": "/data/a", "path": "/data/aa"}, {"op": "remove", "path": "/data/x~1y"},
            {"op": "add", "path": "/list/-", "value": 3}, {"op": "add", "path": "/list/0", "value": 0}]);
        assert_eq!(
            patched(body),
            Ok(json!({"data": {"a": "9", "aa": "9", "bb": "2", "c": "3"}, "list": [0, 1, 2, 3]}))
        );
    }

    #[test]
    fn what_cannot_be_done_is_invalid() {
        for body in [
            json!([{"op": "test", "path": "/data/a", "value": "no"}]),
            json!([{"op": "remove", "path": "/data/none"}]),
            json!([{"op": "frob", "path": "/data/a"}]),
            json!([{"op": "add", "path": "/none/a", "value": 1}]),
        ] {
            let status = patched(body.clone()).expect_err("cannot be done");
            assert_eq!(
                (status.code, status.message.as_str()),
                (422, "the server rejected our request due to an error in our request"),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_patch_is_a_bad_request() {
        let status = patched(json!({"op": "add"})).expect_err("no list");
        assert_eq!(
            (status.code, status.message.as_str()),
            (400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        );
        let many: Vec<_> = (0..10_001).map(|_| json!({"op": "test", "path": "", "value": 1})).collect();
        assert_eq!(patched(json!(many)).expect_err("too many").code, 413);
    }
}
