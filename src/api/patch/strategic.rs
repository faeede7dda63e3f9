//! Strategic merge patch: a merge patch that knows which lists are merged, and by which key.
//!
//! Besides fields a patch holds directives: `$patch: replace | delete | merge` in an object or as an element of a list,
//! `$retainKeys` (of a union, all other fields go), `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`.
//! See <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>.

mod order;

use serde_json::{Map, Value};

use super::{parse, wrong_type};
use crate::quote::{format_value, go_type};
use crate::schema::Schema;
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// The object with the patch in `body` merged into it. `schema` is the object's.
///
/// A body that is no JSON object and directives out of shape are bad requests (400); a list element without its key is
/// an error without reason (500), as in Kubernetes.
pub fn apply(current: &Value, body: &[u8], schema: Schema<'_>) -> Result<Value, Status> {
    let patch = match parse(body).map_err(Status::bad_request)? {
        Value::Object(patch) => patch,
        Value::Null => Map::new(),
        other => return Err(Status::bad_request(wrong_type(&other, "map[string]interface {}"))),
    };
    let original = current.as_object().cloned().unwrap_or_default();
    merge_map(original, patch, Some(schema)).map(Value::Object)
}

/// The answer when what came out of [`apply`] is not an object of the kind: 422 about the field `patch`. `body` is the
/// patch, `error` is that of `decode::decode_patched`.
pub fn undecodable(body: &[u8], error: &str) -> Status {
    let patch = serde_json::from_slice::<Value>(body).unwrap_or_default();
    super::undecodable(&format_value(&patch), error)
}

fn bad_format(of: &str) -> Status {
    Status::bad_request(format!("invalid patch format of {of}"))
}

fn unknown_directive(directive: &Value, mut patch: Map<String, Value>) -> Status {
    let shown = match directive {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        other => format!("%!s({}={})", go_type(other), format_value(other)),
    };
    patch.insert(PATCH.to_owned(), directive.clone());
    Status::plain(format!("unknown patch type: {shown} in map: {}", format_value(&Value::Object(patch))))
}

fn no_list(value: &Value) -> Status {
    let received = match value {
        Value::Null => "%!s(<nil>)",
        value => go_type(value),
    };
    Status::plain(format!("expected a []interface {{}}, but received a {received}"))
}

fn no_merge_key(item: &Value, key: &str) -> Status {
    Status::plain(format!("map: {} does not contain declared merge key: {key}", format_value(item)))
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<Map<String, Value>, Status> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(without_directives_in(patch)),
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(&directive, patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut original, field, value, schema.and_then(|schema| schema.child(field)))?;
            continue;
        }
        if key.starts_with(DELETE_FROM.trim_end_matches('/')) {
            return Err(bad_format("primitive list"));
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let field = schema.and_then(|schema| schema.child(&key));
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(original)), Value::Object(patch)) => Value::Object(merge_map(original, patch, field)?),
            (Some(Value::Array(original)), Value::Array(patch)) => Value::Array(merge_list(original, patch, field)?),
            (Some(Value::Object(_) | Value::Array(_)), Value::Null) => continue,
            (_, value) => without_directives(value),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

/// `$retainKeys`: of the fields that are there, only those it names stay; the patch may set no others.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Status> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(bad_format("retainKeys")) };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_field = |name: &str| !name.starts_with(DELETE_FROM) && !name.starts_with(SET_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && is_field(name) && !retained(name)) {
        return Err(bad_format("retainKeys"));
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// `$deleteFromPrimitiveList/<field>`: `null` takes the whole list away, and anything else that is no list nothing.
fn delete_from_list(
    original: &mut Map<String, Value>,
    field: &str,
    values: Value,
    schema: Option<Schema<'_>>,
) -> Result<(), Status> {
    let is_merged = schema.is_some_and(|schema| schema.patch_strategy().merge);
    match (original.get_mut(field), values) {
        (Some(_), Value::Null) => drop(original.remove(field)),
        (Some(Value::Array(list)), Value::Array(values)) if !is_merged => *list = values,
        (Some(Value::Array(list)), Value::Array(values)) if !list.is_empty() || !values.is_empty() => {
            match all_objects(list, &values)? {
                true => *list = merge_list(std::mem::take(list), values, schema)?,
                false => list.retain(|item| !values.contains(item)),
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the elements of two lists are objects; all must be of one type, and none a list.
fn all_objects(original: &[Value], patch: &[Value]) -> Result<bool, Status> {
    for list in [original, patch] {
        for item in list {
            let first = original.first().or(patch.first()).unwrap_or(item);
            if first.is_array() {
                return Err(super::json::rejected());
            }
            if go_type(first) != go_type(item) {
                return Err(Status::plain(format!("list element types are not identical: {}", format_list(list))));
            }
        }
    }
    Ok(original.iter().chain(patch).any(Value::is_object))
}

/// Merges the lists for which the patch says the order (`$setElementOrder/<field>`), and takes them out of the patch.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<(), Status> {
    let prefix = SET_ORDER.trim_end_matches('/');
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    for directive in directives {
        let wanted = match patch.remove(&directive) {
            Some(Value::Array(wanted)) => wanted,
            other => return Err(no_list(&other.unwrap_or_default())),
        };
        let Some(field) = directive.strip_prefix(SET_ORDER) else { return Err(bad_format("setElementOrder list")) };
        let field = field.to_owned();
        let schema = schema.and_then(|schema| schema.child(&field));
        let key = schema.and_then(Schema::patch_merge_key);
        let patched = match patch.remove(&field) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(other) => return Err(no_list(&other)),
        };
        let live = match original.remove(&field) {
            Some(Value::Array(items)) => Some(items),
            _ => None,
        };
        if let Some(patched) = &patched
            && !order::agrees(patched, &wanted, key)
        {
            let (patched, wanted) = (format_list(patched), format_list(&wanted));
            return Err(Status::plain(format!(
                "The order in patch list:\n{patched}\n doesn't match {} list:\n{wanted}\n",
                SET_ORDER.trim_end_matches('/')
            )));
        }
        let before = live.clone().unwrap_or_default();
        let merged = match (live, patched) {
            (Some(live), None) => live,
            (None, Some(patched)) => without_directives_in_list(patched),
            (Some(live), Some(patched)) => merge_list(live, patched, schema)?,
            (None, None) => continue,
        };
        original.insert(field, Value::Array(order::arrange(merged, &wanted, &before, key)));
    }
    Ok(())
}

fn format_list(items: &[Value]) -> String {
    format_value(&Value::Array(items.to_vec()))
}

/// Merges a list as its field says: whole, as a set of scalars, or element by element by the merge key.
fn merge_list(original: Vec<Value>, patch: Vec<Value>, schema: Option<Schema<'_>>) -> Result<Vec<Value>, Status> {
    let Some(schema) = schema.filter(|schema| schema.patch_strategy().merge) else {
        return Ok(without_directives_in_list(patch));
    };
    let has_objects = all_objects(&original, &patch)?;
    let Some(key) = schema.patch_merge_key().filter(|_| has_objects) else {
        return Ok(merge_scalars(original, patch));
    };
    let mut merged = original;
    let mut replace = false;
    let mut items = Vec::with_capacity(patch.len());
    for item in patch {
        let directive = item.get(PATCH).cloned();
        match directive.as_ref().map(|directive| directive.as_str()) {
            None => items.push(item),
            Some(Some("delete")) => {
                let value = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                merged.retain(|live| live.get(key) != Some(value));
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => return Err(Status::plain("merging lists cannot yet be specified in the patch")),
            Some(_) => {
                let item = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(&directive.unwrap_or_default(), item));
            }
        }
    }
    if replace {
        return Ok(without_directives_in_list(items));
    }
    let before = merged.clone();
    for item in &items {
        let value = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        let patch = item.as_object().cloned().unwrap_or_default();
        match merged.iter_mut().find(|live| live.get(key) == Some(value)) {
            Some(live) => {
                let original = live.as_object_mut().map(std::mem::take).unwrap_or_default();
                *live = Value::Object(merge_map(original, patch, schema.items())?);
            }
            None => merged.push(without_directives(Value::Object(patch))),
        }
    }
    Ok(order::arrange(merged, &items, &before, Some(key)))
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for value in original.iter().chain(&patch) {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    order::arrange(merged, &patch, &original, None)
}

/// What of a patch is new as a whole goes in without its directives and nulls.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives_in(fields)),
        Value::Array(items) => Value::Array(without_directives_in_list(items)),
        scalar => scalar,
    }
}

fn without_directives_in(fields: Map<String, Value>) -> Map<String, Value> {
    let is_directive = |name: &str| {
        name == PATCH || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
    };
    let kept = fields.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    kept.map(|(name, value)| (name, without_directives(value))).collect()
}

fn without_directives_in_list(items: Vec<Value>) -> Vec<Value> {
    items.into_iter().filter(|item| item.get(PATCH).is_none()).map(without_directives).collect()
}

#[cfg(test)]
mod tests;
