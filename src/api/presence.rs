//! Empty values as Kubernetes writes them: most are left out, some are always there.
//!
//! Its types are Go structs: a field tagged `omitempty` is left out when it is empty, unless it is a struct by value; a
//! pointer is left out only when it is absent. Stored and answered objects have to look alike, so decoding ends here.

use serde_json::{Map, Value};

use crate::schema::{Kind, Schema};

/// Leaves out what is empty and adds what is always there, at every level.
pub fn normalize(value: &mut Value, schema: Schema) {
    match (value, schema.kind()) {
        (Value::Object(fields), Kind::Object) => normalize_object(fields, schema),
        (Value::Object(entries), Kind::Map) => {
            let Some(schema) = schema.values() else { return };
            if is_flat(schema) {
                return;
            }
            entries.values_mut().for_each(|value| normalize(value, schema));
        }
        (Value::Array(items), Kind::Array) => {
            let Some(schema) = schema.items() else { return };
            if is_flat(schema) {
                return;
            }
            items.iter_mut().for_each(|value| normalize(value, schema));
        }
        _ => {}
    }
}

fn is_flat(schema: Schema) -> bool {
    !matches!(schema.kind(), Kind::Object | Kind::Map | Kind::Array)
}

fn normalize_object(fields: &mut Map<String, Value>, schema: Schema) {
    if !schema.is_builtin() {
        // A custom resource is no Go struct, but its metadata is.
        for (name, value) in fields {
            if let Some(schema) = schema.field(name) {
                normalize(value, schema);
            }
        }
        return;
    }
    fields.retain(|name, value| match schema.field(name) {
        Some(schema) => {
            normalize(value, schema);
            schema.is_always_present() || !is_left_out(value, schema)
        }
        None => true,
    });
    for (name, schema) in schema.fields().filter(|(_, schema)| schema.is_always_present()) {
        match fields.get_mut(name) {
            Some(Value::Null) | None => {
                fields.insert(name.to_owned(), zero(schema));
            }
            Some(_) => {}
        }
    }
}

/// Makes lists that are empty and written all the same `null`, as they come back from Kubernetes' storage: protobuf, in
/// which it stores most of its own types, knows no difference between no list and an empty one.
///
/// Done to what is stored, after field managers were noted: who sets an empty list has set it.
pub fn forget_empty_lists(value: &mut Value, schema: Schema) {
    if !has_empty_list(value) {
        return;
    }
    match (value, schema.kind()) {
        (Value::Object(fields), Kind::Object) => {
            let protobuf = schema.type_name().is_some_and(|name| name.starts_with("io.k8s.api."));
            for (name, value) in fields {
                let Some(schema) = schema.field(name) else { continue };
                if protobuf && is_empty_list(value) && schema.is_always_present() {
                    *value = Value::Null;
                }
                forget_empty_lists(value, schema);
            }
        }
        (Value::Object(entries), Kind::Map) => {
            let Some(schema) = schema.values() else { return };
            entries.values_mut().for_each(|value| forget_empty_lists(value, schema));
        }
        (Value::Array(items), Kind::Array) => {
            let Some(schema) = schema.items() else { return };
            items.iter_mut().for_each(|value| forget_empty_lists(value, schema));
        }
        _ => {}
    }
}

fn has_empty_list(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty_list),
        Value::Object(fields) => fields.values().any(has_empty_list),
        _ => false,
    }
}

fn is_empty_list(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.is_empty())
}

fn is_left_out(value: &Value, schema: Schema) -> bool {
    match value {
        Value::Null => true,
        _ if schema.is_pointer() => false,
        Value::Bool(value) => !value,
        // An IntOrString is a struct: 0 is kept.
        Value::Number(number) => schema.kind() != Kind::IntOrString && number.as_f64() == Some(0.0),
        Value::String(text) => schema.kind() != Kind::IntOrString && text.is_empty(),
        Value::Array(items) => items.is_empty() && schema.kind() == Kind::Array,
        Value::Object(entries) => entries.is_empty() && schema.kind() == Kind::Map,
    }
}

/// What an absent value of that type is written as.
fn zero(schema: Schema) -> Value {
    if schema.is_pointer() {
        return Value::Null;
    }
    match schema.kind() {
        Kind::Object => {
            let mut fields = Map::new();
            normalize_object(&mut fields, schema);
            Value::Object(fields)
        }
        Kind::String if schema.format() == Some("date-time") => Value::Null,
        Kind::String if schema.format() == Some("byte") => Value::Null,
        Kind::String => "".into(),
        Kind::Integer | Kind::Number => 0.into(),
        Kind::Boolean => false.into(),
        Kind::IntOrString if is_quantity(schema) => "0".into(),
        Kind::IntOrString => 0.into(),
        Kind::Map | Kind::Array | Kind::Any => Value::Null,
    }
}

/// Whether a value is a `Quantity`.
pub fn is_quantity(schema: Schema) -> bool {
    schema.type_name() == Some("io.k8s.apimachinery.pkg.api.resource.Quantity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn normalized(kind: &str, mut value: Value) -> Value {
        normalize(&mut value, crate::schema::definition(kind).unwrap());
        value
    }

    #[test]
    fn what_is_empty_is_left_out_and_structs_are_written() {
        assert_eq!(
            normalized(
                "io.k8s.api.core.v1.Pod",
                json!({"metadata": {"name": "", "labels": {}, "annotations": {"a": ""}}, "spec": {
                    "hostNetwork": false, "hostUsers": false, "nodeName": "", "volumes": [],
                    "containers": [{"name": "c", "image": null, "env": [{"name": "A", "value": ""}]}]}})
            ),
            json!({"metadata": {"annotations": {"a": ""}}, "status": {}, "spec": {"hostUsers": false,
                "containers": [{"name": "c", "env": [{"name": "A"}], "resources": {}}]}})
        );
    }

    #[test]
    fn what_is_required_is_written() {
        assert_eq!(
            normalized("io.k8s.api.storage.v1.CSINode", json!({"metadata": {"name": "n"}})),
            json!({"metadata": {"name": "n"}, "spec": {"drivers": null}})
        );
    }

    #[test]
    fn an_empty_list_stays_one_until_it_is_stored() {
        let kind = "io.k8s.api.storage.v1.CSINode";
        let mut node = normalized(kind, json!({"metadata": {"name": "n"}, "spec": {"drivers": []}}));
        assert_eq!(node["spec"]["drivers"], json!([]));
        forget_empty_lists(&mut node, crate::schema::definition(kind).unwrap());
        assert_eq!(node["spec"]["drivers"], Value::Null);
    }
}
