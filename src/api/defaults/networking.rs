//! networking.k8s.io

use serde_json::{Value, json};

use super::{at, field, fill, items};

pub fn ingress_class(class: &mut Value) {
    if let Some(parameters) = at(class, &["spec", "parameters"]) {
        fill!(parameters, "scope": "Cluster");
    }
}

pub fn network_policy(policy: &mut Value) {
    let Some(spec) = field(policy, "spec") else { return };
    for direction in ["ingress", "egress"] {
        for rule in items(spec, direction) {
            items(rule, "ports").for_each(|port| fill!(port, "protocol": "TCP"));
        }
    }
    let types = match spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty()) {
        true => json!(["Ingress", "Egress"]),
        false => json!(["Ingress"]),
    };
    fill(spec, "policyTypes", types);
}
