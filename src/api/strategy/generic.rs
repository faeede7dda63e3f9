//! What every kind has in common on the way of a write: the status kept apart, the generation, the metadata that only
//! the server sets.

use serde_json::Value;

use super::Strategy;
use crate::defaults;
use crate::object;
use crate::resource::Resource;
use crate::validation::{FieldError, metadata};

/// Fills in what the user left out: the static defaults of the schema, and what the kind knows.
///
/// Done again after admission, and on every object of a patch; doing it twice changes nothing.
pub fn default(resource: &Resource, object: &mut Value) {
    defaults::apply_static(object, resource.schema());
    (resource.strategy.default)(object);
}

/// Before a create: what only the server may set is taken out, and the kind's own preparation done.
///
/// The caller sets name (of `generateName`), namespace, uid and creation timestamp before, and the resource version
/// when it writes.
pub fn prepare_create(resource: &Resource, new: &mut Value) {
    let Strategy { generation, prepare_create, status_on_create, .. } = *resource.strategy;
    let metadata = object::metadata_mut(new);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    if generation {
        metadata.insert("generation".into(), 1.into());
    }
    if resource.has_status() && !status_on_create {
        reset_status(resource, new, None);
    }
    prepare_create(new);
}

/// Before an update of the object itself: its status stays as it was, and a change of what is wanted counts as a
/// generation.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value) {
    let Strategy { generation, prepare_update, .. } = *resource.strategy;
    keep_server_metadata(new, old);
    if resource.has_status() {
        reset_status(resource, new, old.get("status"));
    }
    prepare_update(new, old);
    if generation {
        let changed = wants_differ(new, old) || (resource.strategy.counts_metadata)(new, old);
        let count = object::generation(old) + i64::from(changed);
        if count > 0 {
            object::metadata_mut(new).insert("generation".into(), count.into());
        }
    }
}

/// Before an update of the `status` subresource: only the status is taken from the request, and of the metadata what
/// may go along with it.
pub fn prepare_status(resource: &Resource, new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let metadata = new.get("metadata").cloned();
    *new = old.clone();
    set(new, "status", status.as_ref());
    for field in ["managedFields", "resourceVersion", "labels", "annotations", "finalizers", "ownerReferences"] {
        let value = metadata.as_ref().and_then(|metadata| metadata.get(field));
        match value {
            Some(value) => object::metadata_mut(new).insert(field.into(), value.clone()),
            None => object::metadata_mut(new).remove(field),
        };
    }
    (resource.strategy.prepare_status)(new, old);
}

/// All that is wrong with an object that is to be created.
pub fn validate(resource: &Resource, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    metadata::validate(new, resource.namespaced, resource.strategy.name, &mut errors);
    (resource.strategy.validate)(new, &mut errors);
    (resource.strategy.validate_create)(new, &mut errors);
    if let Some(custom) = resource.custom() {
        custom.validate(new, None, &mut errors);
    }
    errors
}

/// All that is wrong with an update of an object.
pub fn validate_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // Kubernetes checks this twice, once for all kinds and once in each kind's own validation; both are told.
    metadata::validate_update(new, old, &mut errors);
    metadata::validate(new, resource.namespaced, resource.strategy.name, &mut errors);
    metadata::validate_update(new, old, &mut errors);
    (resource.strategy.validate)(new, &mut errors);
    (resource.strategy.validate_update)(new, old, &mut errors);
    if let Some(custom) = resource.custom() {
        custom.validate(new, Some(old), &mut errors);
    }
    errors
}

/// All that is wrong with an update of an object's status.
pub fn validate_status(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    metadata::validate(new, resource.namespaced, resource.strategy.name, &mut errors);
    metadata::validate_update(new, old, &mut errors);
    (resource.strategy.validate_status)(new, old, &mut errors);
    if let Some(custom) = resource.custom() {
        custom.validate(new, Some(old), &mut errors);
    }
    errors
}

/// What only the server sets stays as it is, whatever an update says.
fn keep_server_metadata(new: &mut Value, old: &Value) {
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
        let value = object::at(old, &["metadata", field]).cloned();
        let metadata = object::metadata_mut(new);
        match value {
            Some(value) => metadata.insert(field.into(), value),
            None => metadata.remove(field),
        };
    }
    // A name, namespace or uid may be left out.
    for field in ["name", "namespace", "uid"] {
        let value = object::at(old, &["metadata", field]).cloned();
        let metadata = object::metadata_mut(new);
        if let Some(value) = value
            && metadata.get(field).and_then(Value::as_str).unwrap_or_default().is_empty()
        {
            metadata.insert(field.into(), value);
        }
    }
}

fn reset_status(resource: &Resource, new: &mut Value, status: Option<&Value>) {
    let empty;
    let always = resource.schema().field("status").is_some_and(|schema| schema.is_always_present());
    let status = match status {
        None if always => {
            let mut status = Value::Object(Default::default());
            if let Some(schema) = resource.schema().field("status") {
                crate::presence::normalize(&mut status, schema);
            }
            empty = status;
            Some(&empty)
        }
        status => status,
    };
    set(new, "status", status);
}

fn set(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(object) = object.as_object_mut() {
        match value {
            Some(value) => object.insert(field.to_owned(), value.clone()),
            None => object.remove(field),
        };
    }
}

/// Whether anything but metadata and status differs.
fn wants_differ(new: &Value, old: &Value) -> bool {
    let empty = Default::default();
    let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let apart = |name: &str| matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    new.iter().any(|(name, value)| !apart(name) && old.get(name) != Some(value))
        || old.keys().any(|name| !apart(name) && !new.contains_key(name))
}
