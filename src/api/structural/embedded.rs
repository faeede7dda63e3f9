//! Whole objects inside a custom resource (`x-kubernetes-embedded-resource`): they have a kind and good metadata.

use serde_json::Value;

use super::Structural;
use crate::validation::{FieldError, Path, metadata};

/// Adds what is wrong with the embedded objects.
pub fn validate(schema: &Structural, value: &Value, errors: &mut Vec<FieldError>) {
    walk(schema, value, "", errors);
}

fn walk(schema: &Structural, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if schema.embedded_resource && !path.is_empty() && value.is_object() {
        check(value, path, errors);
    }
    match value {
        Value::Array(items) => {
            let Some(schema) = schema.items() else { return };
            for (index, item) in items.iter().enumerate() {
                walk(schema, item, &format!("{path}[{index}]"), errors);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let Some(child) = schema.child(name) else { continue };
                walk(child, value, &schema.child_path(path, name), errors);
            }
        }
        _ => {}
    }
}

fn check(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["apiVersion", "kind"] {
        if object.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
            errors.push(FieldError::required_at_text(&format!("{path}.{field}")));
        }
    }
    let root = Path::new(path);
    let at = root.child("metadata");
    let field = |name: &str| object.get("metadata").and_then(|metadata| metadata.get(name));
    metadata::labels(&at.child("labels"), field("labels"), errors);
    metadata::annotations(&at.child("annotations"), field("annotations"), errors);
}
