//! Whether an applied configuration fits its schema, in the words of structured-merge-diff.

use std::collections::HashSet;

use serde_json::Value;

use super::fieldset::push_element;
use super::typed::{field, list_element};
use crate::quote::{format_value, go_type, quote};
use crate::schema::{Kind, ListType, Schema};

/// All that is wrong, one line each, as one text; `None` if nothing is.
pub(super) fn complaint(config: &Value, schema: Schema<'_>) -> Option<String> {
    let mut errors = Vec::new();
    check(config, schema, &mut String::new(), &mut errors);
    match errors.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn check(value: &Value, schema: Schema<'_>, path: &mut String, errors: &mut Vec<String>) {
    let mut error = |text: String| {
        errors.push(if path.is_empty() { text } else { format!("{path}: {text}") });
    };
    match (schema.kind(), value) {
        (Kind::Any, _) | (_, Value::Null) => {}
        (Kind::Object | Kind::Map, Value::Object(fields)) => {
            for (name, value) in fields {
                let length = path.len();
                push_element(path, &field(name));
                match schema.child(name) {
                    Some(schema) => check(value, schema, path, errors),
                    None if schema.preserves_unknown() => {}
                    None => errors.push(format!("{path}: field not declared in schema")),
                }
                path.truncate(length);
            }
        }
        (Kind::Array, Value::Array(items)) => check_items(items, schema, path, errors),
        (Kind::Object | Kind::Map, _) => error(format!("expected map, got &{{{}}}", format_value(value))),
        (Kind::Array, _) => error(format!("expected list, got &{{{}}}", format_value(value))),
        (Kind::Integer | Kind::Number, Value::Number(_)) => {}
        (Kind::Integer | Kind::Number, _) => {
            error(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Kind::String, Value::String(_)) => {}
        (Kind::String, _) => {
            error(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)))
        }
        (Kind::Boolean, Value::Bool(_)) => {}
        (Kind::Boolean, _) => error(format!("expected boolean, got &{{{}}}", format_value(value))),
        (Kind::IntOrString, Value::Array(_) | Value::Object(_)) => {
            error(format!("expected any scalar, got &{{{}}}", format_value(value)));
        }
        (Kind::IntOrString, _) => {}
    }
}

fn check_items(items: &[Value], schema: Schema<'_>, path: &mut String, errors: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let element = match schema.list_type() {
            ListType::Atomic => format!("i:{index}").into_boxed_str(),
            _ => match list_element(item, schema) {
                Ok(element) => element,
                Err(key) => {
                    errors.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field {} \
                         (and doesn't have default value)",
                        quote(key)
                    ));
                    return;
                }
            },
        };
        let length = path.len();
        push_element(path, &element);
        if !seen.insert(element) {
            let (list, element) = path.split_at(length);
            errors.push(format!("{list}: duplicate entries for key {element}"));
        }
        if let Some(schema) = schema.items() {
            check(item, schema, path, errors);
        }
        path.truncate(length);
    }
}

/// A value in Go's syntax (`%#v`).
fn go_syntax(value: &Value) -> String {
    let of_type = |parts: Vec<String>| format!("{}{{{}}}", go_type(value), parts.join(", "));
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quote(text),
        Value::Array(items) => of_type(items.iter().map(go_syntax).collect()),
        Value::Object(fields) => {
            of_type(fields.iter().map(|(name, value)| format!("{}:{}", quote(name), go_syntax(value))).collect())
        }
    }
}
