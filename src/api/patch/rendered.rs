//! The text of a patched object as Kubernetes shows it when it is none of its kind.
//!
//! Go's JSON library writes structs in the order of their fields. The patch library takes apart only the containers that
//! the patch looks into, and writes those as maps, sorted by name.

use serde_json::Value;

use super::{PatchType, json, merge};
use crate::protobuf;
use crate::schema::Schema;

/// The text of `patched`, which `body` has made of `current`.
pub fn rendered(kind: PatchType, current: &Value, body: &[u8], patched: &Value, schema: Schema<'_>) -> String {
    let mut sorted = match kind {
        PatchType::Merge => merge::looked_into(current, body),
        _ => json::looked_into(body),
    };
    sorted.push(Vec::new());
    let mut out = String::new();
    write(patched, Some(schema), &mut Vec::new(), &sorted, &mut out);
    out
}

fn write(value: &Value, schema: Option<Schema<'_>>, path: &mut Vec<String>, sorted: &[Vec<String>], out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            let is_sorted = sorted.iter().any(|into| into.len() >= path.len() && into[..path.len()] == path[..]);
            if !is_sorted && let Some(definition) = schema.and_then(Schema::type_name) {
                names.sort_by_key(|name| protobuf::field_place(definition, name));
            }
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&text(name));
                out.push(':');
                path.push(name.clone());
                write(&fields[name], schema.and_then(|schema| schema.child(name)), path, sorted, out);
                path.pop();
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                path.push(index.to_string());
                write(item, schema.and_then(Schema::items), path, sorted, out);
                path.pop();
            }
            out.push(']');
        }
        Value::String(string) => out.push_str(&text(string)),
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// A JSON string in which, as Go does it, nothing is left that HTML could take for its own.
fn text(string: &str) -> String {
    let json = Value::String(string.to_owned()).to_string();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_patch_looks_into_is_sorted_and_the_rest_in_the_order_of_its_struct() {
        let schema = crate::schema::definition("io.k8s.api.core.v1.ConfigMap").expect("built in");
        let current = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "<", "a": "1"},
            "metadata": {"name": "c", "uid": "u", "creationTimestamp": "t", "annotations": {"z": "1"}, "labels": {"l": "1"}}});
        let body = br#"{"data": {"n": 5}}"#;
        let patched = merge::apply(&current, body).expect("a sound patch");
        assert_eq!(
            rendered(PatchType::Merge, &current, body, &patched, schema),
            r#"{"apiVersion":"v1","data":{"a":"1","b":"\u003c","n":5},"kind":"ConfigMap","metadata":{"name":"c","uid":"u","creationTimestamp":"t","labels":{"l":"1"},"annotations":{"z":"1"}}}"#
        );
        let body = br#"[{"op": "add", "path": "/metadata/labels", "value": 1}]"#;
        let patched = json::apply(&current, body).expect("a sound patch");
        assert_eq!(
            rendered(PatchType::Json, &current, body, &patched, schema),
            r#"{"apiVersion":"v1","data":{"a":"1","b":"\u003c"},"kind":"ConfigMap","metadata":{"annotations":{"z":"1"},"creationTimestamp":"t","labels":1,"name":"c","uid":"u"}}"#
        );
    }
}
