//! The rest of the core group.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{field, fill, items, object, text};

/// `stringData` is written into `data`, and never stored.
pub fn secret(secret: &mut Value) {
    let plain = secret.as_object_mut().and_then(|fields| fields.remove("stringData"));
    if let Some(Value::Object(plain)) = plain {
        let data = object(secret, "data");
        for (key, text) in plain {
            data[key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
    fill!(secret, "type": "Opaque");
}

/// What a container gets where it asks for nothing: its limit's default, else the maximum; its request's default, else
/// its limit's, else the minimum.
pub fn limit_range(range: &mut Value) {
    let Some(spec) = field(range, "spec") else { return };
    for limit in items(spec, "limits").filter(|limit| text(limit, "type") == "Container") {
        for (into, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let Some(amounts) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
            let into = object(limit, into);
            for (name, amount) in amounts {
                fill(into, &name, amount);
            }
        }
    }
}

/// A namespace's name is also a label, so that selectors can name it.
pub fn namespace(namespace: &mut Value) {
    fill(object(namespace, "status"), "phase", "Active");
    let name = crate::object::name(namespace).to_owned();
    if !name.is_empty() {
        object(object(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name.into();
    }
}

/// What a node has is what pods can have, unless it says otherwise.
pub fn node(node: &mut Value) {
    if let Some(status) = field(node, "status")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        fill(status, "allocatable", capacity);
    }
    let Some(spec) = field(node, "spec").and_then(Value::as_object_mut) else { return };
    // The older field has the first of the newer one's, and is the one that counts where they differ.
    let first = |spec: &serde_json::Map<String, Value>| spec.get("podCIDRs").and_then(|all| all.get(0)).cloned();
    match spec.get("podCIDR").filter(|range| range.as_str().is_some_and(|range| !range.is_empty())).cloned() {
        Some(range) if first(spec).as_ref() != Some(&range) => {
            spec.insert("podCIDRs".to_owned(), Value::Array(vec![range]));
        }
        Some(_) => {}
        None => {
            if let Some(range) = first(spec) {
                spec.insert("podCIDR".to_owned(), range);
            }
        }
    }
}

pub fn priority_class(class: &mut Value) {
    fill!(class, "preemptionPolicy": "PreemptLowerPriority");
}
