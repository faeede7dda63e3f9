//! Objects as JSON values: what every object has, and how it is written.
//!
//! Accessors never fail: a field of the wrong type reads as absent, since decoding against the schema has already
//! refused it.

use jiff::Timestamp;
use rand::Rng;
use serde_json::{Map, Value, json};

use crate::time::{format_seconds, parse};

/// The text at a path of field names; `None` when something on the way is absent or it is no string.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(object, path)?.as_str()
}

/// The value at a path of field names.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

fn meta<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field)
}

fn meta_text<'a>(object: &'a Value, field: &str) -> &'a str {
    meta(object, field).and_then(Value::as_str).unwrap_or_default()
}

/// `apiVersion`; empty if absent.
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// `kind`; empty if absent.
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// The group and version in an `apiVersion`: `apps/v1` is `("apps", "v1")`, `v1` is `("", "v1")`.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// `metadata.name`; empty if absent.
pub fn name(object: &Value) -> &str {
    meta_text(object, "name")
}

/// `metadata.namespace`; empty if absent.
pub fn namespace(object: &Value) -> &str {
    meta_text(object, "namespace")
}

/// `metadata.uid`; empty if absent.
pub fn uid(object: &Value) -> &str {
    meta_text(object, "uid")
}

/// `metadata.generateName`; empty if absent.
pub fn generate_name(object: &Value) -> &str {
    meta_text(object, "generateName")
}

/// `metadata.resourceVersion` as text; empty if absent.
pub fn resource_version(object: &Value) -> &str {
    meta_text(object, "resourceVersion")
}

/// `metadata.generation`; 0 if absent.
pub fn generation(object: &Value) -> i64 {
    meta(object, "generation").and_then(Value::as_i64).unwrap_or_default()
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    parse(meta_text(object, "creationTimestamp"))
}

/// `metadata.deletionTimestamp`: when the object is due to be gone. An object that has one is being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    parse(meta_text(object, "deletionTimestamp"))
}

/// Whether deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    meta(object, "deletionTimestamp").is_some_and(Value::is_string)
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    meta(object, "deletionGracePeriodSeconds")?.as_i64()
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    meta(object, "labels")?.get(key)?.as_str()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    meta(object, "annotations")?.get(key)?.as_str()
}

/// `metadata.labels`, if there are any.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    meta(object, "labels")?.as_object()
}

/// `metadata.annotations`, if there are any.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    meta(object, "annotations")?.as_object()
}

/// `metadata.finalizers`, in order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    meta(object, "finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// One of `metadata.ownerReferences`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// `metadata.ownerReferences`, in order.
pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    let field = |owner: &'_ Value, name: &str| owner.get(name).and_then(Value::as_bool).unwrap_or_default();
    meta(object, "ownerReferences").and_then(Value::as_array).into_iter().flatten().map(move |owner| OwnerReference {
        api_version: api_version(owner),
        kind: kind(owner),
        name: owner.get("name").and_then(Value::as_str).unwrap_or_default(),
        uid: owner.get("uid").and_then(Value::as_str).unwrap_or_default(),
        controller: field(owner, "controller"),
        block_owner_deletion: field(owner, "blockOwnerDeletion"),
    })
}

/// The owner that controls the object, if one does.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

/// `metadata` to be changed; made if it is absent or no object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    section_mut(object, "metadata")
}

/// A field of the object that is itself an object (`spec`, `status`, …), to be changed; made if it is absent.
pub fn section_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    as_map(as_map(object).entry(field).or_insert(Value::Null))
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

/// Sets a text of `metadata`; an empty one is removed.
pub fn set_metadata(object: &mut Value, field: &str, text: &str) {
    let metadata = metadata_mut(object);
    if text.is_empty() {
        metadata.remove(field);
    } else {
        metadata.insert(field.to_owned(), text.into());
    }
}

/// Sets a time of `metadata`, in whole seconds.
pub fn set_metadata_time(object: &mut Value, field: &str, time: Timestamp) {
    metadata_mut(object).insert(field.to_owned(), format_seconds(time).into());
}

/// A fresh uid.
pub fn new_uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A name beginning with `base`, as the API server makes it from `generateName`: five random characters without
/// vowels, and the base cut so that the name has at most 63.
pub fn generated_name(base: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const SUFFIX: usize = 5;
    let mut end = base.len().min(63 - SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    let mut random = rand::rng();
    name.extend((0..SUFFIX).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])));
    name
}

/// What says which object it is comes first in its metadata, as in Kubernetes' own answers.
const LEADING: [&str; 4] = ["generateName", "name", "namespace", "uid"];

/// The object as it is stored: JSON beginning with `{"apiVersion":…,"kind":…,"metadata":{`, without a resource version
/// (the datastore's revision is the version; [`with_resource_version`] puts it in when the bytes are read).
pub fn encode(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let write = |out: &mut Vec<u8>, value: &Value| {
        // Writing a JSON value into memory cannot fail: its keys are strings.
        let _ = serde_json::to_writer(out, value);
    };
    let key = |out: &mut Vec<u8>, name: &str, first: bool| {
        out.push(if first { b'{' } else { b',' });
        let _ = serde_json::to_writer(&mut *out, name);
        out.push(b':');
    };
    key(&mut out, "apiVersion", true);
    write(&mut out, object.get("apiVersion").unwrap_or(&Value::Null));
    key(&mut out, "kind", false);
    write(&mut out, object.get("kind").unwrap_or(&Value::Null));
    key(&mut out, "metadata", false);
    let mut first = true;
    let metadata = object.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let (leading, other): (Vec<_>, Vec<_>) =
        metadata.filter(|(name, _)| *name != "resourceVersion").partition(|(name, _)| LEADING.contains(&name.as_str()));
    for (name, value) in leading.into_iter().chain(other) {
        key(&mut out, name, first);
        write(&mut out, value);
        first = false;
    }
    out.extend_from_slice(if first { b"{}" } else { b"}" });
    for (name, value) in object.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            key(&mut out, name, false);
            write(&mut out, value);
        }
    }
    out.push(b'}');
    out
}

/// The stored bytes with `metadata.resourceVersion` in place, without parsing them.
///
/// `None` if they were not written by [`encode`].
pub fn with_resource_version(stored: &[u8], revision: u64) -> Option<Vec<u8>> {
    const METADATA: &[u8] = br#""metadata":{"#;
    // No quote stands unescaped inside the two strings before it, so the first match is the key.
    let at = stored.windows(METADATA.len()).position(|window| window == METADATA)? + METADATA.len();
    let (head, tail) = stored.split_at(at);
    let version = format!(r#""resourceVersion":"{revision}"{}"#, if tail.first() == Some(&b'}') { "" } else { "," });
    Some([head, version.as_bytes(), tail].concat())
}

/// The object reduced to `metadata`, as `meta.k8s.io/v1` `PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_bytes_begin_with_metadata_and_carry_no_version() {
        let object = json!({"data": {"metadata": {"a": "b"}}, "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "c", "resourceVersion": "7"}});
        let bytes = encode(&object);
        assert!(bytes.starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"#));
        let read: Value =
            serde_json::from_slice(&with_resource_version(&bytes, 7).expect("encoded bytes")).expect("valid JSON");
        assert_eq!(read, object);
    }

    #[test]
    fn a_version_is_put_into_empty_metadata() {
        let bytes = encode(&json!({"apiVersion": "v1", "kind": "X"}));
        let read: Value =
            serde_json::from_slice(&with_resource_version(&bytes, 3).expect("encoded bytes")).expect("valid JSON");
        assert_eq!(read, json!({"apiVersion": "v1", "kind": "X", "metadata": {"resourceVersion": "3"}}));
        assert_eq!(with_resource_version(b"{}", 3), None);
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generated_name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(generated_name(&"x".repeat(90)).len(), 63);
        assert_ne!(generated_name("a"), generated_name("a"));
    }

    #[test]
    fn accessors_read_absent_fields_as_empty() {
        let object = json!({"metadata": {"finalizers": ["a"], "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]}});
        assert_eq!(name(&object), "");
        assert!(!is_deleting(&object));
        assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["a"]);
        assert_eq!(controller_of(&object).map(|owner| owner.name), Some("p"));
        assert_eq!(group_version("apps/v1"), ("apps", "v1"));
        assert_eq!(group_version("v1"), ("", "v1"));
    }
}
