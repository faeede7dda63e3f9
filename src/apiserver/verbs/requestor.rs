//! Who asks for a certificate stands in the request, which says so to whoever approves and signs it.

use serde_json::{Map, Value};

use crate::call::Call;

/// Puts the caller into a new CertificateSigningRequest, whatever it says itself.
pub(super) fn note(call: &Call, new: &mut Value) {
    if &*call.row.group != "certificates.k8s.io" || &*call.row.plural != "certificatesigningrequests" {
        return;
    }
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let user = &call.user;
    let extra: Map<String, Value> =
        user.extra.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect();
    for (field, value) in [
        ("username", Value::from(user.name.clone())),
        ("uid", user.uid.clone().into()),
        ("groups", user.groups.clone().into()),
        ("extra", extra.into()),
    ] {
        let is_empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => true,
        };
        match is_empty {
            true => spec.remove(field),
            false => spec.insert(field.to_owned(), value),
        };
    }
}
