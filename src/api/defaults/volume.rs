//! Volumes of pods, and persistent volumes.

use serde_json::Value;

use super::{at, field, fill, items, pod, text};

/// A volume of a pod.
pub fn pod_volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.keys().all(|name| name == "name")) {
        fill!(volume, "emptyDir": {});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = field(volume, source) {
            fill!(source, "defaultMode": 420);
        }
    }
    if let Some(source) = field(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(projected) = field(volume, "projected") {
        for source in items(projected, "sources") {
            if let Some(token) = field(source, "serviceAccountToken") {
                fill!(token, "expirationSeconds": 3600);
            }
            if let Some(certificate) = field(source, "podCertificate") {
                fill!(certificate, "maxExpirationSeconds": 86400);
            }
            if let Some(source) = field(source, "downwardAPI") {
                downward_items(source);
            }
        }
    }
    if let Some(image) = field(volume, "image") {
        let policy = pod::pull_policy(text(image, "reference"));
        fill!(image, "pullPolicy": policy);
    }
    if let Some(claim) = at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        claim_spec(claim);
    }
    host_path(volume);
}

fn downward_items(source: &mut Value) {
    for item in items(source, "items") {
        if let Some(reference) = field(item, "fieldRef") {
            fill!(reference, "apiVersion": "v1");
        }
    }
}

fn host_path(source: &mut Value) {
    if let Some(path) = field(source, "hostPath") {
        fill!(path, "type": "");
    }
}

/// A persistent volume.
pub fn persistent_volume(volume: &mut Value) {
    fill(super::object(volume, "status"), "phase", "Pending");
    if let Some(spec) = field(volume, "spec") {
        fill!(spec, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem");
        host_path(spec);
    }
}

/// A claim, of its own or in a StatefulSet.
pub fn persistent_volume_claim(claim: &mut Value) {
    fill(super::object(claim, "status"), "phase", "Pending");
    if let Some(spec) = field(claim, "spec") {
        claim_spec(spec);
    }
}

fn claim_spec(spec: &mut Value) {
    fill!(spec, "volumeMode": "Filesystem");
    // The two say the same; the newer one knows namespaces, and is filled in only within one.
    if let Some(source) = spec.get("dataSource").cloned() {
        fill(spec, "dataSourceRef", source);
    } else if let Some(source) = spec.get("dataSourceRef").filter(|source| source.get("namespace").is_none()).cloned() {
        fill(spec, "dataSource", source);
    }
}
