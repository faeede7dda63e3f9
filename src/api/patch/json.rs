//! JSON patch (RFC 6902), as lenient and as strict as the library that Kubernetes applies it with.
//!
//! It differs from the letter of the RFC: `replace` sets a field that isn't there, `test` takes a missing field for
//! `null`, an index may count from the end (`-1`), an operation without `value` has a `null`, and what stands before the
//! first `/` of a path does not matter.

use serde_json::{Map, Value};

use super::{parse, wrong_type};
use crate::decode;
use crate::status::{Reason, Status};

/// More operations than these are refused.
const MAX_OPERATIONS: usize = 10_000;
/// What all `copy` operations of a patch may add, as JSON: 3 MiB.
const MAX_COPIED: usize = 3 << 20;

/// The object with the operations of `body` done, all or none.
///
/// A body that is no list of operations is a bad request (400), one of too many is too large (413); operations that
/// cannot be done are an invalid one (422), for which Kubernetes does not say why.
pub fn apply(current: &Value, body: &[u8]) -> Result<Value, Status> {
    let operations = match parse(body).map_err(Status::bad_request)? {
        Value::Array(operations) => operations,
        Value::Null => Vec::new(),
        other => return Err(Status::bad_request(wrong_type(&other, "jsonpatch.Patch"))),
    };
    if let Some(other) = operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        return Err(Status::bad_request(wrong_type(other, "jsonpatch.Operation")));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut document = Document { root: current.clone(), copied: 0 };
    for operation in &operations {
        operation.as_object().and_then(|operation| document.apply(operation)).ok_or_else(rejected)?;
    }
    Ok(document.root)
}

/// What a strict reading has to say of the patch: fields that operations don't have, and duplicate ones.
///
/// # Errors
/// 400 if it is no list of operations.
pub(super) fn complaints(body: &[u8]) -> Result<Vec<String>, Status> {
    let refuse = |error: String| Status::bad_request(format!("error decoding patch: {error}"));
    let operations = match parse(body).map_err(refuse)? {
        Value::Array(operations) => operations,
        Value::Null => Vec::new(),
        other => return Err(refuse(wrong_type(&other, "[]handlers.jsonPatchOp"))),
    };
    let mut unknown = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let fields = match operation {
            Value::Object(fields) => fields,
            Value::Null => continue,
            other => return Err(refuse(wrong_type(other, "handlers.jsonPatchOp"))),
        };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("value", _) | ("op" | "path" | "from", Value::String(_) | Value::Null) => {}
                ("op" | "path" | "from", other) => {
                    let what = wrong_type(other, "string");
                    let field = format!("Go struct field jsonPatchOp.{name} of");
                    return Err(refuse(what.replacen("Go value of", &field, 1)));
                }
                _ => unknown.push(format!("unknown field \"[{index}].{name}\"")),
            }
        }
    }
    let all = decode::duplicates(body).into_iter().chain(unknown);
    Ok(all.map(|complaint| format!("json patch {complaint}")).collect())
}

/// The paths of the containers that a patch looks into: of each operation, all but the last step of its paths.
pub(super) fn looked_into(body: &[u8]) -> Vec<Vec<String>> {
    let operations = serde_json::from_slice::<Vec<Map<String, Value>>>(body).unwrap_or_default();
    let paths = operations.iter().flat_map(|operation| [text(operation, "path"), text(operation, "from")]);
    paths.flatten().filter_map(|path| steps(path).map(|(containers, _)| containers)).collect()
}

/// 422 without a reason.
pub(super) fn rejected() -> Status {
    Status {
        code: 422,
        reason: Some(Reason::Invalid),
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::default()),
    }
}

fn text<'a>(operation: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    operation.get(name).and_then(Value::as_str)
}

/// The steps of a path to the container, and the last one.
fn steps(path: &str) -> Option<(Vec<String>, String)> {
    let unescape = |step: &str| {
        let mut plain = String::with_capacity(step.len());
        let mut rest = step;
        while let Some(at) = rest.find('~') {
            let (before, escape) = rest.split_at(at);
            plain.push_str(before);
            let (c, length) = match escape.as_bytes().get(1) {
                Some(b'0') => ('~', 2),
                Some(b'1') => ('/', 2),
                _ => ('~', 1),
            };
            plain.push(c);
            rest = &escape[length..];
        }
        plain + rest
    };
    let mut steps: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let last = steps.pop()?;
    Some((steps, last))
}

/// The place of an element in a list of that length.
fn index(step: &str, length: usize) -> Option<usize> {
    let place: i64 = step.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let place = if place < 0 { place + length } else { place };
    (0..length).contains(&place).then_some(place).and_then(|place| usize::try_from(place).ok())
}

/// An object or list, and a step into it.
struct Place<'v> {
    container: &'v mut Value,
    step: String,
}

impl Place<'_> {
    /// What is there; `Some(None)` where a field is missing or null.
    fn get(&self) -> Option<Option<&Value>> {
        let value = match &*self.container {
            Value::Object(fields) => fields.get(&self.step),
            Value::Array(items) => Some(items.get(index(&self.step, items.len())?)?),
            _ => return None,
        };
        Some(value.filter(|value| !value.is_null()))
    }

    fn add(self, value: Value) -> Option<()> {
        match self.container {
            Value::Object(fields) => drop(fields.insert(self.step, value)),
            Value::Array(items) if self.step == "-" => items.push(value),
            Value::Array(items) => items.insert(index(&self.step, items.len() + 1)?, value),
            _ => return None,
        }
        Some(())
    }

    fn replace(self, value: Value) -> Option<()> {
        match self.container {
            Value::Object(fields) => drop(fields.insert(self.step, value)),
            Value::Array(items) => {
                let at = index(&self.step, items.len())?;
                items[at] = value;
            }
            _ => return None,
        }
        Some(())
    }

    fn remove(self) -> Option<Value> {
        match self.container {
            Value::Object(fields) => fields.remove(&self.step),
            Value::Array(items) => {
                let at = index(&self.step, items.len())?;
                Some(items.remove(at))
            }
            _ => None,
        }
    }
}

struct Document {
    root: Value,
    /// Bytes that were copied so far.
    copied: usize,
}

impl Document {
    fn place(&mut self, path: &str) -> Option<Place<'_>> {
        let (containers, step) = steps(path)?;
        let mut container = &mut self.root;
        for step in &containers {
            container = match container {
                Value::Object(fields) => fields.get_mut(step)?,
                Value::Array(items) => {
                    let at = index(step, items.len())?;
                    items.get_mut(at)?
                }
                _ => return None,
            };
        }
        Some(Place { container, step })
    }

    /// Does an operation; `None` if it cannot be done.
    fn apply(&mut self, operation: &Map<String, Value>) -> Option<()> {
        let path = text(operation, "path")?;
        let value = || operation.get("value").cloned().unwrap_or_default();
        match text(operation, "op")? {
            "add" => self.place(path)?.add(value()),
            "remove" => self.place(path)?.remove().map(drop),
            "replace" if path.is_empty() => {
                self.root = Some(value()).filter(|value| value.is_object() || value.is_array())?;
                Some(())
            }
            "replace" => self.place(path)?.replace(value()),
            "move" => {
                let moved = self.place(text(operation, "from")?)?.remove()?;
                self.place(path)?.add(moved)
            }
            "copy" => {
                let copied = self.place(text(operation, "from")?)?.get()?.cloned();
                if let Some(copied) = &copied {
                    self.copied += serde_json::to_vec(copied).ok()?.len();
                }
                let place = self.place(path)?;
                place.add(copied.unwrap_or_default())?;
                (self.copied <= MAX_COPIED).then_some(())
            }
            "test" if path.is_empty() => (self.root == value()).then_some(()),
            "test" => {
                let wanted = value();
                let there = self.place(path)?;
                (there.get()?.unwrap_or(&Value::Null) == &wanted).then_some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(body: Value) -> Result<Value, Status> {
        apply(
            &json!({"data": {"a": "1", "b": "2", "x/y": "s", "~1": "t"}, "list": [1, 2]}),
            body.to_string().as_bytes(),
        )
    }

    #[test]
    fn does_all_operations() {
        let body = json!([
            {"op": "add", "path": "/data/c", "value": "3"}, {"op": "replace", "path": "/data/a", "value": "9"},
            {"op": "test", "path": "/data/b", "value": "2"}, {"op": "move", "from": "/data/b", "path": "/data/bb"},
            {"op": "copy", "from": "/data/a", "path": "/data/aa"}, {"op": "remove", "path": "/data/x~1y"},
            {"op": "remove", "path": "/data/~01"},
            {"op": "add", "path": "/list/-", "value": 3}, {"op": "add", "path": "/list/0", "value": 0}]);
        assert_eq!(
            patched(body),
            Ok(json!({"data": {"a": "9", "aa": "9", "bb": "2", "c": "3"}, "list": [0, 1, 2, 3]}))
        );
    }

    #[test]
    fn is_as_lenient_as_kubernetes() {
        let body = json!([
            {"op": "replace", "path": "/data/new", "value": "n"}, {"op": "test", "path": "/data/none", "value": null},
            {"op": "test", "path": "/data/none"}, {"op": "add", "path": "/data/null"},
            {"op": "remove", "path": "/list/-1"}, {"op": "add", "path": "/list/-1", "value": 7},
            {"op": "replace", "path": "/list/+0", "value": 5}, {"op": "add", "path": "ignored/top", "value": 1}]);
        assert_eq!(
            patched(body),
            Ok(json!({"data": {"a": "1", "b": "2", "x/y": "s", "~1": "t", "new": "n", "null": null},
                      "list": [5, 7], "top": 1}))
        );
        assert_eq!(apply(&json!({"a": 1}), b"null"), Ok(json!({"a": 1})));
    }

    #[test]
    fn what_cannot_be_done_is_invalid() {
        for body in [
            json!([{"op": "test", "path": "/data/a", "value": "no"}]),
            json!([{"op": "remove", "path": "/data/none"}]),
            json!([{"op": "frob", "path": "/data/a"}]),
            json!([{"op": "add", "path": "/none/a", "value": 1}]),
            json!([{"op": "add", "path": "/list/4", "value": 1}]),
            json!([{"op": "add", "path": "/list/-4", "value": 1}]),
            json!([{"op": "add", "path": "/list/x", "value": 1}]),
            json!([{"op": "replace", "path": "/list/2", "value": 1}]),
            json!([{"op": "test", "path": "/list/2", "value": null}]),
            json!([{"op": "add", "path": "", "value": {}}]),
            json!([{"op": "replace", "path": "", "value": "text"}]),
            json!([{"op": "move", "from": "/data/none", "path": "/data/a"}]),
            json!([{"op": "add", "value": 1}]),
            json!([null]),
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
    fn copies_grow_only_so_far() {
        let text = "x".repeat(1 << 20);
        let copies = |count: usize| {
            (0..count).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/{i}")})).collect::<Value>()
        };
        let current = json!({"a": text});
        assert!(apply(&current, copies(2).to_string().as_bytes()).is_ok());
        let status = apply(&current, copies(3).to_string().as_bytes()).expect_err("too much");
        assert_eq!(status.code, 422);
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

    #[test]
    fn a_strict_reading_tells_what_operations_do_not_have() {
        assert_eq!(
            complaints(br#"[{"op":"add","op":"test","path":"/a","foo":1}]"#),
            Ok(vec![
                "json patch duplicate field \"[0].op\"".to_owned(),
                "json patch unknown field \"[0].foo\"".to_owned()
            ])
        );
        for (body, error) in [
            ("{}", "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
            ("[1]", "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
            (r#"[{"op":1}]"#, "json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
            ("[", "unexpected end of JSON input"),
        ] {
            let message = complaints(body.as_bytes()).map_err(|status| status.message);
            assert_eq!(message, Err(format!("error decoding patch: {error}")));
        }
    }
}
