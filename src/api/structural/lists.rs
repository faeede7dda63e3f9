//! Lists that are sets or maps: no element twice.

use serde_json::{Map, Value};

use super::{ListType, Structural};
use crate::validation::{FieldError, Verbatim};

/// Adds an error for every element that is there before.
pub fn validate(schema: &Structural, value: &Value, errors: &mut Vec<FieldError>) {
    walk(schema, value, "", errors);
}

fn walk(schema: &Structural, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let at = format!("{path}[{index}]");
                let key = match schema.list_type() {
                    ListType::Set => Some(item.clone()),
                    ListType::Map => Some(keys(schema, item)),
                    ListType::Atomic => None,
                };
                if let Some(key) = key {
                    if seen.contains(&key) {
                        let value = key.as_str().map_or_else(|| key.to_string(), crate::quote::quote);
                        errors.push(FieldError::duplicate_at_text(&at, Verbatim(value)));
                    } else {
                        seen.push(key);
                    }
                }
                if let Some(schema) = schema.items() {
                    walk(schema, item, &at, errors);
                }
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

/// The fields that identify an element, with their defaults left out.
fn keys(schema: &Structural, item: &Value) -> Value {
    let present = schema.map_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(present.collect::<Map<_, _>>())
}
