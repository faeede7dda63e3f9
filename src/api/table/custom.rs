//! Tables of custom resources: the columns of their definition.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns::{AGE, NAME};
use super::fields::Fields;
use super::{Column, jsonpath, object_age};
use crate::resource::{PrinterColumn, Resource};
use crate::time::age;

/// Shown if a definition has no columns. Unlike that of built-in kinds, its type is `date`.
const DEFAULT_AGE: Column = AGE.date();

pub(super) fn columns(resource: &Resource) -> Value {
    let mut definitions = vec![NAME.definition()];
    if resource.columns.is_empty() {
        definitions.push(DEFAULT_AGE.definition());
    }
    definitions.extend(resource.columns.iter().map(|column| {
        let description = match column.description.as_ref() {
            "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
            text => text.to_owned(),
        };
        json!({"name": column.name, "type": column.type_, "format": column.format, "description": description,
            "priority": column.priority})
    }));
    Value::Array(definitions)
}

pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let fields = Fields(object);
    let mut cells = vec![fields.name()];
    if resource.columns.is_empty() {
        cells.push(object_age(fields, now));
    }
    cells.extend(resource.columns.iter().map(|column| cell(column, object, now)));
    cells
}

/// The cell of a column: `null` if there is nothing, or nothing of the column's type.
fn cell(column: &PrinterColumn, object: &Value, now: Timestamp) -> Value {
    let found = jsonpath::find(object, &column.json_path);
    let Some(first) = found.first() else { return Value::Null };
    match (column.type_.as_ref(), first) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => (number as i64).into(),
            (None, None) => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("integer" | "number" | "boolean", _) => Value::Null,
        ("date", Value::String(time)) if crate::time::parse(time).is_some() => age(Some(time), now).into(),
        ("date", _) => "<invalid>".into(),
        // Several values stand in one cell, as text.
        _ => {
            let texts = found.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            texts.collect::<Vec<_>>().join(" ").into()
        }
    }
}
