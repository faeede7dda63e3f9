//! storage.k8s.io: classes, and what the drivers of volumes tell of themselves.

use std::collections::BTreeSet;

use serde_json::Value;

use super::node::{Errors, Node};
use super::{FieldError, names, number, selector};

const DRIVER_NAME_LIMIT: usize = 63;
const NODE_ID_LIMIT: usize = 256;
const PARAMETERS_LIMIT: usize = 512;
const PARAMETERS_SIZE_LIMIT: usize = 256 * 1024;

/// The name of a CSI driver: a domain, in which upper case is put up with.
fn driver_name(node: &Node, errors: &mut Errors) {
    node.require(errors);
    if node.text().len() > DRIVER_NAME_LIMIT {
        errors.push(FieldError::too_long(&node.path, DRIVER_NAME_LIMIT));
    }
    node.invalid_text(errors, names::dns1123_subdomain(&node.text().to_lowercase()));
}

fn provisioner(node: &Node, errors: &mut Errors) {
    if node.require(errors) {
        node.invalid_text(errors, names::qualified_name(&node.text().to_lowercase()));
    }
}

/// What a class passes on to its driver.
fn parameters(node: &Node, errors: &mut Errors) {
    let count = node.map().map_or(0, |map| map.len());
    if count > PARAMETERS_LIMIT {
        return errors.push(FieldError::too_long(&node.path, PARAMETERS_LIMIT));
    }
    let mut size = 0;
    for (key, value) in node.entries() {
        if key.is_empty() {
            node.invalid_as(key, errors, "field can not be empty.");
        }
        size += key.len() + value.text().len();
    }
    if size > PARAMETERS_SIZE_LIMIT {
        errors.push(FieldError::too_long(&node.path, PARAMETERS_SIZE_LIMIT));
    }
}

pub fn storage_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    provisioner(&root.field("provisioner"), errors);
    parameters(&root.field("parameters"), errors);
    let policy = root.field("reclaimPolicy");
    if policy.is_set() {
        policy.one_of(errors, &["Delete", "Retain"]);
    }
    let mode = root.field("volumeBindingMode");
    match mode.is_set() {
        true => mode.one_of(errors, &["Immediate", "WaitForFirstConsumer"]),
        false => mode.required(errors, ""),
    }
}

/// A class means to a volume what it meant when the volume was made.
pub fn storage_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    stays(new, old, &["parameters", "provisioner", "reclaimPolicy"], errors);
    let (new, old) = (Node::root(new), Node::root(old));
    new.field("volumeBindingMode").immutable(&old.field("volumeBindingMode"), errors);
}

fn stays(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    for field in fields {
        if new.field(field).value != old.field(field).value {
            new.field(field).forbidden(errors, format!("updates to {field} are forbidden."));
        }
    }
}

pub fn volume_attributes_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    provisioner(&root.field("driverName"), errors);
    parameters(&root.field("parameters"), errors);
    if root.field("parameters").is_empty() {
        root.field("parameters").required(errors, "must contain at least one key/value pair");
    }
}

pub fn volume_attributes_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    stays(new, old, &["driverName", "parameters"], errors);
}

pub fn csi_driver(driver: &Value, errors: &mut Errors) {
    let root = Node::root(driver);
    let metadata = root.field("metadata");
    let name = Node { value: metadata.field("name").value, path: root.field("name").path };
    driver_name(&name, errors);
    let spec = root.field("spec");
    // The first of them is told under another name than it has.
    for (field, told_as) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.field(field).is_set() {
            spec.field(told_as).required(errors, "");
        }
    }
    let policy = spec.field("fsGroupPolicy");
    match policy.is_set() {
        true => policy.one_of(errors, &["File", "None", "ReadWriteOnceWithFSType"]),
        false => policy.required(errors, ""),
    }
    token_requests(&spec.field("tokenRequests"), errors);
    let modes = spec.field("volumeLifecycleModes");
    for mode in modes.items().filter(|mode| !["Ephemeral", "Persistent"].contains(&mode.text())) {
        errors.push(FieldError::not_supported(&modes.path, mode.value, &["Ephemeral", "Persistent"]));
    }
    if !spec.field("seLinuxMount").is_set() {
        spec.field("seLinuxMount").required(errors, "seLinuxMount must not be nil");
    }
    let period = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 10) {
        period.invalid(errors, "must be greater than or equal to 10 seconds");
    }
}

fn token_requests(requests: &Node, errors: &mut Errors) {
    let mut audiences = BTreeSet::new();
    for request in requests.items() {
        let (audience, seconds) = (request.field("audience"), request.field("expirationSeconds"));
        if !audiences.insert(audience.text().to_owned()) {
            errors.push(FieldError::duplicate(&audience.path, audience.text()));
            continue;
        }
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            seconds.invalid(errors, "may not specify a duration less than 10 minutes");
        }
        if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
            seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

/// How volumes are attached and made is decided when a driver comes.
pub fn csi_driver_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let attach = new_spec.field("attachRequired");
    if attach.value != old_spec.field("attachRequired").value {
        let at = new_spec.field("attachedRequired");
        at.invalid_as(attach.value, errors, "field is immutable");
    }
    new_spec.field("volumeLifecycleModes").immutable(&old_spec.field("volumeLifecycleModes"), errors);
}

pub fn csi_node(node: &Value, errors: &mut Errors) {
    let root = Node::root(node);
    let spec = root.field("spec");
    let mut seen = BTreeSet::new();
    for driver in spec.field("drivers").items() {
        let (name, id) = (driver.field("name"), driver.field("nodeID"));
        driver_name(&name, errors);
        id.require(errors);
        if id.text().len() > NODE_ID_LIMIT {
            id.invalid(errors, format!("must be {NODE_ID_LIMIT} characters or less"));
        }
        let allocatable = driver.field("allocatable");
        allocatable.field("count").non_negative(errors);
        if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
        let mut topology = BTreeSet::new();
        let keys = driver.field("topologyKeys");
        for key in keys.items() {
            if key.is_empty() {
                driver.required(errors, "");
            }
            if !topology.insert(key.text()) {
                errors.push(FieldError::duplicate(&driver.path, key.text()));
            }
            for message in names::qualified_name(key.text()) {
                driver.invalid_as(keys.value, errors, message);
            }
        }
    }
}

/// What a driver has told of itself on a node stays until it is taken away.
pub fn csi_node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (drivers, were) = (new_spec.field("drivers"), old_spec.field("drivers"));
    let root = new.field("CSINodeDriver");
    for was in were.items() {
        for driver in drivers.items().filter(|driver| driver.field("name").value == was.field("name").value) {
            let parts = ["nodeID", "topologyKeys"];
            if parts.iter().any(|part| driver.field(part).value != was.field(part).value) {
                root.invalid_as(driver.value, errors, "field is immutable");
            }
        }
    }
}

pub fn csi_storage_capacity(capacity: &Value, errors: &mut Errors) {
    let root = Node::root(capacity);
    let class = root.field("storageClassName");
    class.invalid_text(errors, names::dns1123_subdomain(class.text()));
    for field in ["capacity", "maximumVolumeSize"] {
        number::non_negative_quantity(&root.field(field), errors);
    }
    selector::label_selector(&root.field("nodeTopology"), errors);
}

pub fn csi_storage_capacity_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let topology = new.field("nodeTopology");
    if topology.value != old.field("nodeTopology").value {
        topology.invalid_as(selector::shown(topology.value), errors, "field is immutable");
    }
    new.field("storageClassName").immutable(&old.field("storageClassName"), errors);
}

pub fn volume_attachment(attachment: &Value, errors: &mut Errors) {
    let root = Node::root(attachment);
    let spec = root.field("spec");
    let attacher = spec.field("attacher");
    attacher.require(errors);
    let source = spec.field("source");
    let (name, inline) = (source.field("persistentVolumeName"), source.field("inlineVolumeSpec"));
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (name.is_set(), inline.is_set()) {
        (false, false) => source.required(errors, ONE),
        (true, true) => source.forbidden(errors, ONE),
        (true, false) if name.is_empty() => name.required(errors, "must specify non empty persistentVolumeName"),
        _ => {}
    }
    let node = spec.field("nodeName");
    node.invalid_text(errors, names::dns1123_subdomain(node.text()));
    driver_name(&attacher, errors);
    if name.is_set() {
        name.invalid_text(errors, names::dns1123_subdomain(name.text()));
    }
}

pub fn volume_attachment_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let spec = new.field("spec");
    if spec.value != old.field("spec").value {
        spec.invalid(errors, "field is immutable");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::wrong;

    #[test]
    fn an_attachment_is_of_one_volume() {
        let attachment = |source: Value| json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": source}});
        assert!(wrong(volume_attachment, attachment(json!({"persistentVolumeName": "v"}))).is_empty());
        assert_eq!(
            wrong(volume_attachment, attachment(json!({}))),
            ["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"]
        );
    }

    #[test]
    fn a_class_of_attributes_has_some() {
        let class = |parameters: Value| json!({"driverName": "a.b", "parameters": parameters});
        assert!(wrong(volume_attributes_class, class(json!({"a": "b"}))).is_empty());
        assert_eq!(
            wrong(volume_attributes_class, class(json!({}))),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        let mut errors = Vec::new();
        volume_attributes_class_update(&class(json!({"a": "c"})), &class(json!({"a": "b"})), &mut errors);
        assert_eq!(errors[0].to_string(), "parameters: Forbidden: updates to parameters are forbidden.");
    }

    #[test]
    fn drivers_of_a_node_differ_and_have_an_id() {
        let node = json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}, {"name": "a.b"}]}});
        assert_eq!(
            wrong(csi_node, node),
            ["spec.drivers[1].nodeID: Required value", r#"spec.drivers[1].name: Duplicate value: "a.b""#]
        );
    }
}
