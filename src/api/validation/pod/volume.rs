//! Volumes of pods, and what persistent volumes have in common with them.

use super::container::field_ref;
use crate::validation::FieldError;
use crate::validation::names;
use crate::validation::node::{Errors, Node};
use crate::validation::number;

/// The sources of a volume, in the order in which Kubernetes looks at them.
pub const SOURCES: [&str; 31] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "local",
    "image",
];

pub fn volumes(volumes: &Node, errors: &mut Errors) {
    for (index, volume) in volumes.items().enumerate() {
        source(&volume, errors);
        let name = volume.field("name");
        if name.require(errors) {
            let found = names::dns1123_label(name.text());
            let valid = found.is_empty();
            name.invalid_text(errors, found);
            if valid && volumes.items().take(index).any(|other| other.field("name").text() == name.text()) {
                name.duplicate(errors);
            }
        }
    }
}

/// The one source that a volume or persistent volume must have.
pub fn source(volume: &Node, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES {
        let source = volume.field(kind);
        if !source.is_set() {
            continue;
        }
        if count > 0 {
            source.forbidden(errors, "may not specify more than 1 volume type");
            continue;
        }
        count += 1;
        one_source(kind, &source, errors);
    }
    if count == 0 {
        volume.required(errors, "must specify a volume type");
    }
}

fn one_source(kind: &str, source: &Node, errors: &mut Errors) {
    let mut require = |fields: &[&str]| {
        for field in fields {
            source.field(field).require(errors);
        }
    };
    match kind {
        "emptyDir" => {
            let limit = source.field("sizeLimit");
            if limit.is_set() && number::quantity(&limit).is_negative() {
                limit.forbidden(errors, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(source, errors),
        "secret" => {
            require(&["secretName"]);
            keys(source, errors);
        }
        "configMap" => {
            require(&["name"]);
            keys(source, errors);
        }
        "persistentVolumeClaim" => require(&["claimName"]),
        "nfs" => {
            require(&["server", "path"]);
            let path = source.field("path");
            if !path.is_empty() && !path.text().starts_with('/') {
                path.invalid(errors, "must be an absolute path");
            }
        }
        "iscsi" => require(&["targetPortal", "iqn"]),
        "rbd" => require(&["monitors", "image"]),
        "cephfs" => require(&["monitors"]),
        "csi" => require(&["driver"]),
        "flexVolume" => require(&["driver"]),
        "gitRepo" => require(&["repository"]),
        "image" => require(&["reference"]),
        "local" => {
            require(&["path"]);
            no_back_steps(&source.field("path"), errors);
        }
        "downwardAPI" => {
            mode(&source.field("defaultMode"), errors);
            downward_items(source, errors);
        }
        "projected" => projected(source, errors),
        "ephemeral" => {
            let template = source.field("volumeClaimTemplate");
            match template.is_set() {
                true => claim_spec(&template.field("spec"), errors),
                false => template.required(errors, ""),
            }
        }
        _ => {}
    }
}

fn host_path(source: &Node, errors: &mut Errors) {
    let path = source.field("path");
    if path.require(errors) {
        no_back_steps(&path, errors);
    }
    let kind = source.field("type");
    if kind.is_set() {
        let kinds =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        kind.one_of(errors, &kinds);
    }
}

/// A path that doesn't lead up.
pub fn no_back_steps(path: &Node, errors: &mut Errors) {
    if path.text().split('/').any(|step| step == "..") {
        path.invalid(errors, "must not contain '..'");
    }
}

fn relative_path(path: &Node, errors: &mut Errors) {
    if path.text().starts_with('/') {
        path.invalid(errors, "must be a relative path");
    }
    no_back_steps(path, errors);
    // The kubelet's own files in such a volume begin so.
    if path.text().starts_with("..") && !path.text().split('/').any(|step| step == "..") {
        path.invalid(errors, "must not start with '..'");
    }
}

/// The permissions of a file.
fn mode(mode: &Node, errors: &mut Errors) {
    if mode.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        mode.invalid(errors, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// Which keys of a ConfigMap or Secret become which files.
fn keys(source: &Node, errors: &mut Errors) {
    mode(&source.field("defaultMode"), errors);
    for item in source.field("items").items() {
        item.field("key").require(errors);
        let path = item.field("path");
        if path.require(errors) {
            relative_path(&path, errors);
        }
        mode(&item.field("mode"), errors);
    }
}

/// Fields of the pod that a file can hold.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward_items(source: &Node, errors: &mut Errors) {
    for item in source.field("items").items() {
        let path = item.field("path");
        if path.require(errors) {
            relative_path(&path, errors);
        }
        let (field, resource) = (item.field("fieldRef"), item.field("resourceFieldRef"));
        field_ref(&field, &FILE_FIELDS, errors);
        match (field.is_set(), resource.is_set()) {
            (true, true) => {
                item.invalid_as("resource", errors, "fieldRef and resourceFieldRef can not be specified simultaneously")
            }
            (false, true) => {
                resource.field("containerName").require(errors);
                resource.field("resource").require(errors);
            }
            (false, false) => item.required(errors, "one of fieldRef and resourceFieldRef is required"),
            (true, false) => {}
        }
        mode(&item.field("mode"), errors);
    }
}

fn projected(source: &Node, errors: &mut Errors) {
    mode(&source.field("defaultMode"), errors);
    for projection in source.field("sources").items() {
        let mut count = 0;
        for kind in
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let one = projection.field(kind);
            if !one.is_set() {
                continue;
            }
            count += 1;
            if count > 1 {
                one.forbidden(errors, "may not specify more than 1 volume type");
                continue;
            }
            match kind {
                "secret" | "configMap" => {
                    one.field("name").require(errors);
                    keys(&one, errors);
                }
                "downwardAPI" => downward_items(&one, errors),
                "serviceAccountToken" => {
                    let seconds = one.field("expirationSeconds");
                    if seconds.int().is_some_and(|seconds| seconds < 600) {
                        seconds.invalid(errors, "may not specify a duration less than 10 minutes");
                    }
                    if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
                        seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
                    }
                    one.field("path").require(errors);
                }
                _ => {}
            }
        }
    }
}

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// How a volume may be used.
pub fn access_modes(modes: &Node, errors: &mut Errors) {
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.text()) {
            errors.push(FieldError::not_supported(&modes.path, mode.text(), &ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.items().any(|mode| mode.text() == "ReadWriteOncePod") {
        modes.forbidden(errors, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a claim.
pub fn claim_spec(spec: &Node, errors: &mut Errors) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        modes.required(errors, "at least 1 access mode is required");
    }
    if spec.field("selector").is_set() {
        crate::validation::selector::label_selector(&spec.field("selector"), errors);
    }
    access_modes(&modes, errors);
    let resources = spec.field("resources");
    let requests = resources.field("requests");
    // Told of the resources themselves.
    let storage = resources.path.key("storage");
    match requests.value.get("storage") {
        None => errors.push(FieldError::required(&storage, "")),
        Some(amount) => positive_quantity(&Node { value: amount, path: storage }, errors),
    }
    let class = spec.field("storageClassName");
    if !class.is_empty() {
        class.invalid_text(errors, names::dns1123_subdomain(class.text()));
    }
    let mode = spec.field("volumeMode");
    if mode.is_set() {
        mode.one_of(errors, &["Block", "Filesystem"]);
    }
    data_source(&spec.field("dataSource"), errors);
    data_source(&spec.field("dataSourceRef"), errors);
}

/// What a new volume is filled from.
fn data_source(source: &Node, errors: &mut Errors) {
    if !source.is_set() {
        return;
    }
    let (group, kind) = (source.field("apiGroup"), source.field("kind"));
    source.field("name").require(errors);
    kind.require(errors);
    if group.is_empty() && kind.text() != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        source.invalid_as(kind.text(), errors, why);
    } else if !group.is_empty() {
        group.invalid_text(errors, names::dns1123_subdomain(group.text()));
    }
}

/// An amount that is more than nothing.
pub fn positive_quantity(amount: &Node, errors: &mut Errors) {
    let quantity = number::quantity(amount);
    if quantity.is_zero() || quantity.is_negative() {
        amount.invalid(errors, "must be greater than zero");
    }
}
