//! apiextensions.k8s.io and apiregistration.k8s.io

use serde_json::Value;

use super::{at, field, fill, object, text};

pub fn custom_resource_definition(definition: &mut Value) {
    let Some(spec) = field(definition, "spec") else { return };
    fill!(object(spec, "conversion"), "strategy": "None");
    if let Some(service) = at(spec, &["conversion", "webhook", "clientConfig", "service"]) {
        fill!(service, "port": 443);
    }
    if let Some(names) = field(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            fill(names, "singular", kind.to_lowercase());
            fill(names, "listKind", format!("{kind}List"));
        }
    }
}

pub fn api_service(service: &mut Value) {
    if let Some(service) = at(service, &["spec", "service"]) {
        fill!(service, "port": 443);
    }
}
