//! The rest of the core group.

use serde_json::Value;

use super::node::{Errors, Node};
use super::pod::volume;
use super::{FieldError, Path, Verbatim, metadata, names, number};
use crate::quantity::Quantity;
use crate::{go_value, object};

/// What a ConfigMap or Secret may hold altogether.
const DATA_LIMIT: usize = 1024 * 1024;

fn data_keys(data: &Node, errors: &mut Errors) -> usize {
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_map_key(key) {
            value.invalid_as(key, errors, message);
        }
        size += value.text().len();
    }
    size
}

/// The bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|byte| *byte == b'=').count()
}

pub fn config_map(map: &Value, errors: &mut Errors) {
    let root = Node::root(map);
    let (data, binary) = (root.field("data"), root.field("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for message in names::config_map_key(key) {
            value.invalid_as(key, errors, message);
        }
        if binary.value.get(key).is_some() {
            value.invalid_as(key, errors, "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    data_keys(&binary, errors);
    size += binary.entries().map(|(_, value)| decoded_len(value.text())).sum::<usize>();
    if size > DATA_LIMIT {
        // Kubernetes tells it of no field, which reads so.
        errors.push(FieldError::too_long(&Path::ROOT.key(""), DATA_LIMIT));
    }
}

/// What is immutable stays so, and as it is.
pub fn immutable_data(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    if !old.field("immutable").bool() {
        return;
    }
    const MESSAGE: &str = "field is immutable when `immutable` is set";
    if !new.field("immutable").bool() {
        new.field("immutable").forbidden(errors, MESSAGE);
    }
    for field in ["data", "binaryData"] {
        if new.field(field).value != old.field(field).value {
            new.field(field).forbidden(errors, MESSAGE);
        }
    }
}

pub fn secret(secret: &Value, errors: &mut Errors) {
    let root = Node::root(secret);
    let data = root.field("data");
    data_keys(&data, errors);
    if data.entries().map(|(_, value)| decoded_len(value.text())).sum::<usize>() > DATA_LIMIT {
        errors.push(FieldError::too_long(&data.path, DATA_LIMIT));
    }
    let require = |keys: &[&str], errors: &mut Errors| {
        for key in keys {
            if data.value.get(key).is_none() {
                errors.push(FieldError::required(&data.path.key(key), ""));
            }
        }
    };
    match root.field("type").text() {
        "kubernetes.io/service-account-token" => {
            let metadata = root.field("metadata");
            let annotations = metadata.field("annotations");
            let key = "kubernetes.io/service-account.name";
            if annotations.value.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
                errors.push(FieldError::required(&annotations.path.key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => {
            require(&[".dockercfg"], errors);
            docker_config(&data, ".dockercfg", errors);
        }
        "kubernetes.io/dockerconfigjson" => {
            require(&[".dockerconfigjson"], errors);
            docker_config(&data, ".dockerconfigjson", errors);
        }
        "kubernetes.io/basic-auth" if data.value.get("username").is_none() && data.value.get("password").is_none() => {
            require(&["username", "password"], errors);
        }
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"], errors),
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"], errors),
        _ => {}
    }
}

/// Credentials of registries are a map in JSON. What they are is not told to those who read errors.
fn docker_config(data: &Node, key: &str, errors: &mut Errors) {
    use base64::Engine;
    let Some(text) = data.value.get(key).and_then(Value::as_str) else { return };
    let config = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&config) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => crate::patch::wrong_type(&other, "map[string]interface {}"),
        Err(error) => crate::decode::syntax::error(&config).unwrap_or_else(|| error.to_string()),
    };
    errors.push(FieldError::invalid(&data.path.key(key), "<secret contents redacted>", why));
}

pub fn secret_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new_root, old_root) = (Node::root(new), Node::root(old));
    new_root.field("type").immutable(&old_root.field("type"), errors);
    immutable_data(new, old, errors);
}

pub fn endpoints(endpoints: &Value, errors: &mut Errors) {
    let root = Node::root(endpoints);
    for subset in root.field("subsets").items() {
        if subset.field("addresses").is_empty() && subset.field("notReadyAddresses").is_empty() {
            subset.required(errors, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.field(list).items() {
                let ip = address.field("ip");
                // Kubernetes takes no loopback address; here the API server of a host may have no other.
                ip.invalid_text(errors, names::ip_address(ip.text()));
            }
        }
        let ports = subset.field("ports");
        for port in ports.items() {
            let (name, number) = (port.field("name"), port.field("port"));
            if ports.len() > 1 && name.is_empty() {
                name.required(errors, "");
            } else if !name.is_empty() {
                name.invalid_text(errors, names::dns1123_label(name.text()));
            }
            if let Some(message) = names::port_number(number.int().unwrap_or(0)) {
                number.invalid(errors, message);
            }
            super::pod::container::protocol(&port.field("protocol"), errors);
        }
    }
}

pub fn persistent_volume(volume: &Value, errors: &mut Errors) {
    let root = Node::root(volume);
    let spec = root.field("spec");
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        modes.required(errors, "");
    }
    volume::access_modes(&modes, errors);
    let capacity = spec.field("capacity");
    if capacity.is_empty() {
        capacity.required(errors, "");
    }
    if capacity.value.get("storage").is_none() || capacity.map().is_some_and(|amounts| amounts.len() > 1) {
        let shown = Verbatim(capacity.value.to_string());
        errors.push(FieldError::not_supported(&capacity.path, shown, &["storage"]));
    }
    for (_, amount) in capacity.entries() {
        if number::quantity(&amount).is_negative() {
            amount.invalid(errors, "must be a valid resource quantity");
        }
        volume::positive_quantity(&amount, errors);
    }
    let policy = spec.field("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        policy.one_of(errors, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = spec.field("nodeAffinity");
    if affinity.is_set() {
        match affinity.field("required").is_set() {
            true => super::selector::node_selector(&affinity.field("required"), errors),
            false => affinity.field("required").required(errors, "must specify required node constraints"),
        }
    }
    volume::source(&spec, errors);
    if spec.field("local").is_set() && !affinity.is_set() {
        affinity.required(errors, "Local volume requires node affinity");
    }
    let host = spec.field("hostPath");
    let is_root = host.is_set() && host.field("path").text().split('/').all(|step| matches!(step, "" | "."));
    if is_root && policy.text() == "Recycle" {
        policy.forbidden(errors, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = spec.field("storageClassName");
    if !class.is_empty() {
        class.invalid_text(errors, names::dns1123_subdomain(class.text()));
    }
    let mode = spec.field("volumeMode");
    if mode.is_set() {
        mode.one_of(errors, &["Block", "Filesystem"]);
    }
}

/// Where a volume is doesn't change, nor what it is mounted as.
pub fn persistent_volume_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    if volume::SOURCES.iter().any(|source| new_spec.field(source).value != old_spec.field(source).value) {
        let at = new_spec.field("persistentvolumesource");
        at.forbidden(errors, "spec.persistentvolumesource is immutable after creation");
    }
    let mode = new_spec.field("volumeMode");
    if mode.value != old_spec.field("volumeMode").value {
        new.field("volumeMode").invalid_as(mode.value, errors, "field is immutable");
    }
}

pub fn persistent_volume_claim(claim: &Value, errors: &mut Errors) {
    let root = Node::root(claim);
    volume::claim_spec(&root.field("spec"), errors);
}

/// A claim that is bound may ask for more, and nothing else changes.
pub fn persistent_volume_claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let root = Node::root(new);
    let spec = root.field("spec");
    let (mut wanted, mut was) = (spec.value.clone(), old.get("spec").cloned().unwrap_or(Value::Null));
    let storage = ["resources", "requests", "storage"];
    let size = |spec: &Value| object::at(spec, &storage).cloned().unwrap_or(Value::Null);
    let quantity = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok()).unwrap_or_default();
    let (asked, had) = (size(&wanted), size(&was));
    // The volume is named once.
    if object::text(&was, &["volumeName"]).unwrap_or_default().is_empty() {
        copy(&mut was, &wanted, "volumeName");
    }
    copy(&mut was, &wanted, "volumeAttributesClassName");
    if object::text(new, &["status", "phase"]) == Some("Bound")
        && let Some(requests) = wanted.pointer_mut("/resources/requests").and_then(Value::as_object_mut)
    {
        requests.insert("storage".to_owned(), had.clone());
    }
    if wanted != was {
        let difference = go_value::difference("PersistentVolumeClaimSpec", &was, &wanted);
        spec.forbidden(
            errors,
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{difference}"
            ),
        );
    }
    let capacity = object::at(old, &["status", "capacity", "storage"]).map(quantity).unwrap_or_default();
    if quantity(&asked) < quantity(&had) && (quantity(&asked) <= capacity || capacity == Quantity::ZERO) {
        let resources = spec.field("resources");
        let requests = resources.field("requests");
        requests.field("storage").forbidden(errors, "field can not be less than status.capacity");
    }
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

pub fn node(node: &Value, errors: &mut Errors) {
    let root = Node::root(node);
    let spec = root.field("spec");
    for taint in spec.field("taints").items() {
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        super::selector::label_name(&key, errors);
        value.invalid_text(errors, names::label_value(value.text()));
        match effect.text() {
            "" => effect.required(errors, ""),
            _ => effect.one_of(errors, &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        }
    }
    for range in spec.field("podCIDRs").items() {
        range.invalid_text(errors, names::cidr(range.text()));
    }
}

/// Who a node is, and which addresses its pods have, is said once.
pub fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    for (field, told_as) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let (value, was) = (new_spec.field(field), old_spec.field(field));
        if !was.is_empty() && value.value != was.value {
            value.forbidden(errors, format!("node updates may not change {told_as} except from \"\" to valid"));
        }
    }
}

/// Pod Security's labels mean something to admission.
pub fn namespace(namespace: &Value, errors: &mut Errors) {
    let root = Node::root(namespace);
    let spec = root.field("spec");
    for finalizer in spec.field("finalizers").items() {
        metadata::finalizer_name(&finalizer.path, finalizer.text(), errors);
    }
    let metadata = root.field("metadata");
    let labels = metadata.field("labels");
    for (key, value) in labels.entries() {
        let Some(mode) = key.strip_prefix("pod-security.kubernetes.io/") else { continue };
        match mode {
            "enforce" | "audit" | "warn" if !["privileged", "baseline", "restricted"].contains(&value.text()) => {
                value.invalid(errors, "must be one of privileged, baseline, restricted");
            }
            "enforce-version" | "audit-version" | "warn-version" if !is_pod_security_version(value.text()) => {
                value.invalid(errors, "must be \"latest\" or \"v1.x\"");
            }
            _ => {}
        }
    }
}

fn is_pod_security_version(text: &str) -> bool {
    text == "latest"
        || text
            .strip_prefix("v1.")
            .is_some_and(|minor| minor == "0" || !minor.starts_with('0') && minor.parse::<u32>().is_ok())
}
