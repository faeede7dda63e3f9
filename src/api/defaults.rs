//! What a field is when the user left it out.
//!
//! Static defaults stand in the schema ([`apply_static`]). What depends on other fields is a function per kind, in the
//! file of its group; the rows of the resource table name them through their strategies.

/// Sets several fields, each unless it is there.
macro_rules! fill {
    ($object:expr, $($field:literal: $default:tt),+ $(,)?) => {{
        let object: &mut serde_json::Value = $object;
        $(crate::defaults::fill(object, $field, serde_json::json!($default));)+
    }};
}

pub mod admissionregistration;
pub mod apiextensions;
pub mod autoscaling;
pub mod core;
pub mod flowcontrol;
pub mod networking;
pub mod pod;
pub mod rbac;
pub mod resource;
pub mod service;
pub mod storage;
pub mod volume;
pub mod workload;

use serde_json::{Map, Value};

use crate::schema::{Kind, Schema};

/// Fills in the static defaults of a schema, at every level that is there.
pub fn apply_static(value: &mut Value, schema: Schema) {
    match value {
        Value::Object(entries) if schema.kind() == Kind::Map => {
            if let Some(schema) = schema.values() {
                entries.values_mut().for_each(|value| apply_static(value, schema));
            }
        }
        Value::Object(fields) => {
            for (name, field) in schema.fields().filter(|(_, field)| field.has_default()) {
                if fields.get(name).is_none_or(Value::is_null)
                    && let Some(default) = field.default()
                {
                    fields.insert(name.to_owned(), default);
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = schema.field(name)
                    && matches!(value, Value::Object(_) | Value::Array(_))
                {
                    apply_static(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.items() {
                items.iter_mut().for_each(|item| apply_static(item, schema));
            }
        }
        _ => {}
    }
}

/// Sets a field of an object that has none, or a null.
pub(crate) fn fill(object: &mut Value, field: &str, default: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), default.into());
    }
}

/// A field's value, if the field is there.
pub(crate) fn field<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    object.get_mut(name).filter(|value| !value.is_null())
}

/// The value at a path of fields, if it is there.
pub(crate) fn at<'a>(object: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |value, name| field(value, name))
}

/// The elements of a list field; none if it is not there.
pub(crate) fn items<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The text of a field; empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// An object field, made if it is not there.
pub(crate) fn object<'a>(object: &'a mut Value, name: &str) -> &'a mut Value {
    fill(object, name, Map::new());
    &mut object[name]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn static_defaults_come_from_the_schema() {
        let mut pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 80}, {"protocol": "UDP"}]}],
            "volumes": [{"rbd": {"image": "i"}}]}});
        apply_static(&mut pod, crate::schema::definition("io.k8s.api.core.v1.Pod").unwrap());
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(pod["spec"]["containers"][0]["ports"][1]["protocol"], "UDP");
        assert_eq!(
            pod["spec"]["volumes"][0]["rbd"],
            json!({"image": "i", "pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"})
        );
    }
}
