//! Configurations that are merged into an object without anybody's owning the fields: by mutating admission policies.

use serde_json::Value;

use super::typed::{self, Type};
use super::validate;
use crate::schema::{Kind, ListType, MapType, Schema};

/// The object with the configuration's fields merged into it, as server-side apply merges.
///
/// # Errors
/// In words, if the configuration has fields that the schema does not have, or of other types.
pub fn merge(object: &Value, configuration: &Value, schema: Schema<'_>) -> Result<Value, String> {
    match validate::complaint(configuration, schema) {
        Some(complaint) => Err(complaint),
        None => Ok(typed::merge(object, configuration, Type::Known(schema))),
    }
}

/// The atomic lists, maps and structs that a configuration sets, as paths (`.spec.containers[0].args`): what it does not
/// name in them would be lost.
pub fn atomics(configuration: &Value, schema: Schema<'_>) -> Vec<String> {
    let mut found = Vec::new();
    find(configuration, schema, String::new(), &mut found);
    found
}

fn find(value: &Value, schema: Schema<'_>, path: String, found: &mut Vec<String>) {
    match (schema.kind(), value) {
        (Kind::Object | Kind::Map, Value::Object(fields)) => {
            if schema.map_type() == MapType::Atomic {
                found.push(path.clone());
            }
            // Maps may be of anything; only what has names is looked into.
            for (name, value) in fields {
                if let Some(field) = schema.field(name) {
                    find(value, field, format!("{path}.{name}"), found);
                }
            }
        }
        (Kind::Array, Value::Array(items)) => {
            if schema.list_type() == ListType::Atomic {
                found.push(path.clone());
            }
            let Some(of) = schema.items() else { return };
            for (index, item) in items.iter().enumerate() {
                find(item, of, format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}
