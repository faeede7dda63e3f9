//! resource.k8s.io

use serde_json::Value;

use super::{field, items, text};

fn devices(claim: &mut Value) {
    let Some(devices) = field(claim, "devices") else { return };
    let request = |request: &mut Value| {
        fill!(request, "allocationMode": "ExactCount");
        if text(request, "allocationMode") == "ExactCount" {
            fill!(request, "count": 1);
        }
    };
    for one in items(devices, "requests") {
        field(one, "exactly").into_iter().for_each(request);
        items(one, "firstAvailable").for_each(request);
    }
}

pub fn resource_claim(claim: &mut Value) {
    field(claim, "spec").into_iter().for_each(devices);
}

pub fn resource_claim_template(template: &mut Value) {
    super::at(template, &["spec", "spec"]).into_iter().for_each(devices);
}
