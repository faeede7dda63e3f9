//! Services and what they lead to.

use serde_json::{Value, json};

use super::{field, items, object, text};

pub fn service(service: &mut Value) {
    let Some(spec) = field(service, "spec") else { return };
    fill!(spec, "sessionAffinity": "None", "type": "ClusterIP");
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = object(object(spec, "sessionAffinityConfig"), "clientIP");
        if client.get("timeoutSeconds").and_then(Value::as_i64).is_none_or(|seconds| seconds == 0) {
            client["timeoutSeconds"] = json!(10800);
        }
    } else if let Some(fields) = spec.as_object_mut() {
        fields.remove("sessionAffinityConfig");
    }
    for port in items(spec, "ports") {
        fill!(port, "protocol": "TCP");
        let number = port.get("port").cloned().unwrap_or(json!(0));
        if port.get("targetPort").is_none_or(|target| *target == 0 || *target == "") {
            port["targetPort"] = number;
        }
    }
    let kind = text(spec, "type").to_owned();
    if matches!(&*kind, "NodePort" | "LoadBalancer") {
        fill!(spec, "externalTrafficPolicy": "Cluster");
    }
    if matches!(&*kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        fill!(spec, "internalTrafficPolicy": "Cluster");
    }
    if kind == "LoadBalancer" {
        fill!(spec, "allocateLoadBalancerNodePorts": true);
        if let Some(balancer) = super::at(service, &["status", "loadBalancer"]) {
            for ingress in items(balancer, "ingress").filter(|ingress| ingress.get("ip").is_some()) {
                fill!(ingress, "ipMode": "VIP");
            }
        }
    }
}

pub fn endpoints(endpoints: &mut Value) {
    for subset in items(endpoints, "subsets") {
        items(subset, "ports").for_each(|port| fill!(port, "protocol": "TCP"));
    }
}

pub fn endpoint_slice(slice: &mut Value) {
    items(slice, "ports").for_each(|port| fill!(port, "name": "", "protocol": "TCP"));
}
