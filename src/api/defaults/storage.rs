//! storage.k8s.io

use serde_json::Value;

use super::field;

pub fn storage_class(class: &mut Value) {
    fill!(class, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate");
}

pub fn csi_driver(driver: &mut Value) {
    if let Some(spec) = field(driver, "spec") {
        fill!(spec, "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false,
            "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
            "requiresRepublish": false, "seLinuxMount": false);
    }
}
