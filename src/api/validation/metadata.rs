//! The rules for `metadata`, the same for every kind.

use serde_json::Value;

use super::{FieldError, Path, Shown, Verbatim, names};
use crate::object;
use crate::quote::quote;
use crate::strategy::Name;

/// All annotations of an object together: 256 KiB.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// What is wrong with a name of that kind. A prefix (`generateName`) may end with a hyphen.
pub fn name_errors(kind: Name, name: &str, prefix: bool) -> Vec<String> {
    let masked;
    let name = match prefix && name.len() > 1 && name.ends_with('-') {
        true => {
            masked = format!("{}a", &name[..name.len() - 1]);
            masked.as_str()
        }
        false => name,
    };
    match kind {
        Name::Subdomain => names::dns1123_subdomain(name),
        Name::Label => names::dns1123_label(name),
        Name::Rfc1035Label => names::dns1035_label(name),
        Name::PathSegment => names::path_segment(name),
        Name::Address => names::canonical_ip(name).into_iter().collect(),
    }
}

/// The rules for the metadata of any object, on create and update.
pub fn validate(object: &Value, namespaced: bool, name: Name, errors: &mut Vec<FieldError>) {
    validate_at(&Path::new("metadata"), object.get("metadata").unwrap_or(&Value::Null), namespaced, name, errors);
}

/// The same for metadata anywhere in an object.
pub fn validate_at(at: &Path, metadata: &Value, namespaced: bool, kind: Name, errors: &mut Vec<FieldError>) {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    let generate_name = text("generateName");
    if !generate_name.is_empty() {
        for message in name_errors(kind, generate_name, true) {
            errors.push(FieldError::invalid(&at.child("generateName"), generate_name, message));
        }
    }
    match text("name") {
        "" => errors.push(FieldError::required(&at.child("name"), "name or generateName is required")),
        name => {
            for message in name_errors(kind, name, false) {
                errors.push(FieldError::invalid(&at.child("name"), name, message));
            }
        }
    }
    let namespace = text("namespace");
    if namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required(&at.child("namespace"), ""));
        } else {
            for message in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid(&at.child("namespace"), namespace, message));
            }
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden(&at.child("namespace"), "not allowed on this type"));
    }
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|generation| *generation < 0) {
        errors.push(FieldError::invalid(&at.child("generation"), generation, "must be greater than or equal to 0"));
    }
    labels(&at.child("labels"), metadata.get("labels"), errors);
    annotations(&at.child("annotations"), metadata.get("annotations"), errors);
    owner_references(&at.child("ownerReferences"), metadata.get("ownerReferences"), errors);
    finalizers(&at.child("finalizers"), metadata.get("finalizers"), errors);
    managed_fields(&at.child("managedFields"), metadata.get("managedFields"), errors);
}

/// Label keys and values.
pub fn labels(at: &Path, labels: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        for message in names::qualified_name(key) {
            errors.push(FieldError::invalid(at, key, message));
        }
        let value = value.as_str().unwrap_or_default();
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(at, value, message));
        }
    }
}

/// Annotation keys, and the size of all annotations.
pub fn annotations(at: &Path, annotations: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        // Keys may be in upper case, other than a prefix would allow.
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(at, key, message));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(at, ANNOTATIONS_LIMIT));
    }
}

fn owner_references(at: &Path, references: Option<&Value>, errors: &mut Vec<FieldError>) {
    let references = references.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut controller: Option<&Value> = None;
    for (index, reference) in references.iter().enumerate() {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = at.index(index);
        let (group, version) = object::group_version(text("apiVersion"));
        if version.is_empty() {
            errors.push(FieldError::invalid(&at.child("apiVersion"), text("apiVersion"), "version must not be empty"));
        }
        if text("kind").is_empty() {
            errors.push(FieldError::invalid(&at.child("kind"), text("kind"), "must not be empty"));
        }
        if text("name").is_empty() {
            errors.push(FieldError::invalid(&at.child("name"), text("name"), "must not be empty"));
        }
        if text("uid").is_empty() {
            errors.push(FieldError::invalid(&at.child("uid"), text("uid"), "must not be empty"));
        }
        if group.is_empty() && version == "v1" && text("kind") == "Event" {
            let message = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&at, owner_reference(reference), message));
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            match controller {
                None => controller = Some(reference),
                Some(first) => {
                    let all: Vec<String> =
                        references.iter().map(|reference| owner_reference(reference).shown()).collect();
                    let named = |reference: &Value| {
                        let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
                        format!("{}/{}", text("kind"), text("name"))
                    };
                    errors.push(FieldError::invalid(
                        at.parent.unwrap_or(&at),
                        Verbatim(format!("[{}]", all.join(","))),
                        format!(
                            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                            named(first),
                            named(reference)
                        ),
                    ));
                }
            }
        }
    }
}

/// An owner reference as an error shows it: its fields in the order in which Kubernetes writes them.
fn owner_reference(reference: &Value) -> Verbatim {
    let fields = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let fields: Vec<String> = fields
        .iter()
        .filter_map(|field| reference.get(field).map(|value| format!("{}:{value}", quote(field))))
        .collect();
    Verbatim(format!("{{{}}}", fields.join(",")))
}

fn finalizers(at: &Path, finalizers: Option<&Value>, errors: &mut Vec<FieldError>) {
    let (mut orphans, mut foreground) = (false, false);
    let list = finalizers.and_then(Value::as_array).into_iter().flatten();
    for (index, finalizer) in list.filter_map(Value::as_str).enumerate() {
        finalizer_name(&at.index(index), finalizer, errors);
        orphans |= finalizer == "orphan";
        foreground |= finalizer == "foregroundDeletion";
    }
    if orphans && foreground {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(at, finalizers, message));
    }
}

/// A finalizer: a qualified name, with a domain unless it is one of Kubernetes' own.
pub fn finalizer_name(at: &Path, finalizer: &str, errors: &mut Vec<FieldError>) {
    for message in names::qualified_name(finalizer) {
        errors.push(FieldError::invalid(at, finalizer, message));
    }
    let standard = ["kubernetes", "orphan", "foregroundDeletion"];
    if !finalizer.contains('/') && !standard.contains(&finalizer) {
        let message = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(at, finalizer, message));
    }
}

fn managed_fields(at: &Path, entries: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (index, entry) in entries.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = at.index(index);
        if !matches!(text("operation"), "Apply" | "Update") {
            errors.push(FieldError::invalid(&at.child("operation"), text("operation"), "must be `Apply` or `Update`"));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            errors.push(FieldError::invalid(&at.child("fieldsType"), text("fieldsType"), "must be `FieldsV1`"));
        }
        if text("manager").len() > 128 {
            errors.push(FieldError::too_long(&at.child("manager"), 128));
        }
    }
}

/// What an update may not change in the metadata.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("metadata");
    new_finalizers(&at.child("finalizers"), new, old, errors);
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (object::at(new, &["metadata", field]), object::at(old, &["metadata", field]));
        if new != old {
            errors.push(FieldError::invalid(&at.child(field), new, "field is immutable"));
        }
    }
    let generation = |object: &Value| object::generation(object);
    if generation(new) < generation(old) {
        errors.push(FieldError::invalid(&at.child("generation"), generation(new), "must not be decremented"));
    }
}

/// An object that is being deleted takes no new finalizers.
fn new_finalizers(at: &Path, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if !object::is_deleting(old) {
        return;
    }
    let added: Vec<String> = object::finalizers(new)
        .filter(|finalizer| !object::finalizers(old).any(|kept| kept == *finalizer))
        .map(quote)
        .collect();
    if !added.is_empty() {
        let message = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden(at, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(metadata: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&json!({"metadata": metadata}), true, Name::Subdomain, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_needed() {
        assert_eq!(
            messages(json!({"namespace": "n"})),
            ["metadata.name: Required value: name or generateName is required"]
        );
        assert!(messages(json!({"namespace": "n", "name": "a"})).is_empty());
    }

    #[test]
    fn references_have_one_controller() {
        let reference = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true});
        assert_eq!(
            messages(
                json!({"namespace": "n", "name": "a", "ownerReferences": [reference("a", "u1"), reference("b", "u2")]})
            ),
            [
                r#"metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"a","uid":"u1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"b","uid":"u2","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for Pod/a and Pod/b"#
            ]
        );
    }

    #[test]
    fn finalizers_are_qualified() {
        assert_eq!(
            messages(json!({"namespace": "n", "name": "a", "finalizers": ["notqualified", "example.com/x"]})),
            [
                r#"metadata.finalizers[0]: Invalid value: "notqualified": name is neither a standard finalizer name nor is it fully qualified"#
            ]
        );
    }

    #[test]
    fn a_dying_object_takes_no_finalizers() {
        let old = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["x.example/f"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["x.example/f", "x.example/g"]);
        let mut errors = Vec::new();
        validate_update(&new, &old, &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x.example/g"}"#
            ]
        );
    }
}
