//! Volumes, claims, classes and CSI.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::Fields;
use super::{Cells, Printer, columns, object_age};

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("", "persistentvolumes") => (columns::PERSISTENTVOLUMES, volume),
        ("", "persistentvolumeclaims") => (columns::PERSISTENTVOLUMECLAIMS, claim),
        ("storage.k8s.io", "storageclasses") => (columns::STORAGECLASSES, class),
        ("storage.k8s.io", "volumeattributesclasses") => (columns::VOLUMEATTRIBUTESCLASSES, |object, now| {
            vec![object.name(), object.text("driverName").into(), object_age(object, now)]
        }),
        ("storage.k8s.io", "volumeattachments") => (columns::VOLUMEATTACHMENTS, |object, now| {
            vec![
                object.name(),
                object.text("spec.attacher").into(),
                object.text("spec.source.persistentVolumeName").into(),
                object.text("spec.nodeName").into(),
                object.bool("status.attached").into(),
                object_age(object, now),
            ]
        }),
        ("storage.k8s.io", "csidrivers") => (columns::CSIDRIVERS, csi_driver),
        ("storage.k8s.io", "csinodes") => (columns::CSINODES, |object, now| {
            vec![object.name(), object.count("spec.drivers").into(), object_age(object, now)]
        }),
        ("storage.k8s.io", "csistoragecapacities") => (columns::CSISTORAGECAPACITIES, |object, _| {
            vec![object.name(), object.text("storageClassName").into(), object.text_or("capacity", "<unset>").into()]
        }),
        _ => return None,
    })
}

/// `RWO,ROX`: each mode once, in Kubernetes' order.
fn access_modes(modes: &[&str]) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    short.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase(object: Fields<'_>) -> Value {
    if object.has("metadata.deletionTimestamp") { "Terminating" } else { object.text("status.phase") }.into()
}

/// The storage class, which once was an annotation.
fn class_name(object: Fields<'_>) -> Value {
    let annotation = crate::object::annotation(object.0, "volume.beta.kubernetes.io/storage-class");
    annotation.unwrap_or_else(|| object.text("spec.storageClassName")).into()
}

fn volume(object: Fields<'_>, now: Timestamp) -> Cells {
    let claim = object.at("spec.claimRef").map(|claim| format!("{}/{}", claim.text("namespace"), claim.text("name")));
    vec![
        object.name(),
        object.text("spec.capacity.storage").into(),
        access_modes(&object.texts("spec.accessModes")).into(),
        object.text("spec.persistentVolumeReclaimPolicy").into(),
        phase(object),
        claim.unwrap_or_default().into(),
        class_name(object),
        object.text_or("spec.volumeAttributesClassName", "<unset>").into(),
        object.text("status.reason").into(),
        object_age(object, now),
        object.text_or("spec.volumeMode", "<unset>").into(),
    ]
}

fn claim(object: Fields<'_>, now: Timestamp) -> Cells {
    let bound = !object.text("spec.volumeName").is_empty();
    let (capacity, modes) = match bound {
        true => (object.text("status.capacity.storage"), access_modes(&object.texts("status.accessModes"))),
        false => ("", String::new()),
    };
    vec![
        object.name(),
        phase(object),
        object.text("spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        class_name(object),
        object.text_or("spec.volumeAttributesClassName", "<unset>").into(),
        object_age(object, now),
        object.text_or("spec.volumeMode", "<unset>").into(),
    ]
}

fn class(object: Fields<'_>, now: Timestamp) -> Cells {
    let annotation = |key: &str| crate::object::annotation(object.0, key) == Some("true");
    let default = annotation("storageclass.kubernetes.io/is-default-class")
        || annotation("storageclass.beta.kubernetes.io/is-default-class");
    let name = object.text("metadata.name");
    vec![
        if default { format!("{name} (default)") } else { name.to_owned() }.into(),
        object.text("provisioner").into(),
        object.text_or("reclaimPolicy", "Delete").into(),
        object.text_or("volumeBindingMode", "Immediate").into(),
        object.bool("allowVolumeExpansion").into(),
        object_age(object, now),
    ]
}

fn csi_driver(object: Fields<'_>, now: Timestamp) -> Cells {
    let audiences: Vec<_> = object.list("spec.tokenRequests").map(|request| request.text("audience")).collect();
    let modes = object.texts("spec.volumeLifecycleModes").join(",");
    vec![
        object.name(),
        object.get("spec.attachRequired").is_none_or(|required| required == &Value::Bool(true)).into(),
        object.bool("spec.podInfoOnMount").into(),
        object.bool("spec.storageCapacity").into(),
        if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") }.into(),
        object.bool("spec.requiresRepublish").into(),
        if modes.is_empty() { "<none>".to_owned() } else { modes }.into(),
        object_age(object, now),
    ]
}
