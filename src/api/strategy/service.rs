//! Services: what was allocated stays through updates that leave it out, and goes with the type that needed it.

use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

fn text<'a>(spec: &'a Fields, field: &str) -> &'a str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn type_of(spec: &Fields) -> &str {
    match text(spec, "type") {
        "" => "ClusterIP",
        other => other,
    }
}

fn needs_cluster_ip(spec: &Fields) -> bool {
    type_of(spec) != "ExternalName"
}

fn needs_node_port(spec: &Fields) -> bool {
    let allocates = spec.get("allocateLoadBalancerNodePorts") != Some(&json!(false));
    type_of(spec) == "NodePort" || type_of(spec) == "LoadBalancer" && allocates
}

fn is_load_balancer(spec: &Fields) -> bool {
    type_of(spec) == "LoadBalancer"
}

fn needs_health_check_port(spec: &Fields) -> bool {
    is_load_balancer(spec) && text(spec, "externalTrafficPolicy") == "Local"
}

/// Whether traffic comes in from outside the cluster.
fn is_external(spec: &Fields) -> bool {
    let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    matches!(type_of(spec), "NodePort" | "LoadBalancer") || (needs_cluster_ip(spec) && external)
}

fn is_empty(spec: &Fields, field: &str) -> bool {
    match spec.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    }
}

fn spec(service: &mut Value) -> Option<&mut Fields> {
    service.get_mut("spec")?.as_object_mut()
}

/// What an update leaves out, or no longer needs.
pub fn update(new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (spec(new), old.get("spec").and_then(Value::as_object)) else { return };
    keep_allocated(new, old);
    drop_unneeded(new, old);
    if text(new, "clusterIP") != text(old, "clusterIP") && new.get("clusterIPs") == old.get("clusterIPs") {
        // A client that only knows the one address has changed it.
        match text(new, "clusterIP").to_owned() {
            address if address.is_empty() => drop(new.remove("clusterIPs")),
            address => {
                if let Some(first) = new.get_mut("clusterIPs").and_then(|addresses| addresses.get_mut(0)) {
                    *first = address.into();
                }
            }
        }
    }
}

fn keep(new: &mut Fields, old: &Fields, field: &str) {
    if is_empty(new, field)
        && let Some(value) = old.get(field)
    {
        new.insert(field.to_owned(), value.clone());
    }
}

fn ports(spec: &Fields) -> &[Value] {
    spec.get("ports").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn keep_allocated(new: &mut Fields, old: &Fields) {
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        keep(new, old, "clusterIP");
        if text(new, "clusterIP") == text(old, "clusterIP") {
            keep(new, old, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            keep(new, old, field);
        }
    }
    if needs_node_port(new) && needs_node_port(old) {
        let mut used: Vec<Value> = ports(new).iter().filter_map(|port| port.get("nodePort").cloned()).collect();
        for port in new.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let same = |other: &&Value| ["port", "protocol"].iter().all(|field| other.get(field) == port.get(field));
            let number = ports(old).iter().find(same).and_then(|other| other.get("nodePort")).cloned();
            if let (None, Some(number)) = (port.get("nodePort"), number.filter(|number| !used.contains(number))) {
                used.push(number.clone());
                port["nodePort"] = number;
            }
        }
    }
    if needs_health_check_port(new) && needs_health_check_port(old) {
        keep(new, old, "healthCheckNodePort");
    }
}

/// Takes a field away if the client left it as it was: it did not ask for it, it just did not know better.
fn drop_unchanged(new: &mut Fields, old: &Fields, field: &str) {
    if new.get(field) == old.get(field) {
        new.remove(field);
    }
}

fn drop_unneeded(new: &mut Fields, old: &Fields) {
    let ended = |needs: fn(&Fields) -> bool, new: &Fields| needs(old) && !needs(new);
    if ended(needs_cluster_ip, new) {
        for field in ["clusterIPs", "clusterIP", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_unchanged(new, old, field);
        }
    }
    if ended(needs_node_port, new) {
        let number = |port: &Value| port.get("nodePort").cloned();
        let unchanged = ports(new).iter().map(number).eq(ports(old).iter().map(number));
        if unchanged {
            for port in new.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
            }
        }
    }
    if ended(needs_health_check_port, new) {
        drop_unchanged(new, old, "healthCheckNodePort");
    }
    if ended(is_load_balancer, new) {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            drop_unchanged(new, old, field);
        }
    }
    if ended(is_external, new) {
        drop_unchanged(new, old, "externalTrafficPolicy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(mut new: Value, old: Value) -> Value {
        update(&mut new, &old);
        new["spec"].take()
    }

    #[test]
    fn a_change_of_type_takes_along_what_the_type_needed() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30080}]}});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        assert_eq!(
            updated(new, old.clone()),
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]})
        );
        let mut new = old.clone();
        new["spec"]["type"] = "ExternalName".into();
        assert_eq!(updated(new, old), json!({"type": "ExternalName", "ports": [{"port": 80}]}));
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_changed_is_told_by_both_fields() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}});
        let new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81}]}});
        let spec = updated(new, old.clone());
        assert_eq!((&spec["clusterIP"], &spec["ports"][0]["nodePort"]), (&json!("10.0.0.1"), &json!(30080)));
        assert_eq!(spec["ports"][1].get("nodePort"), None);
        let mut new = old.clone();
        new["spec"]["clusterIP"] = "10.0.0.2".into();
        assert_eq!(updated(new, old)["clusterIPs"], json!(["10.0.0.2"]));
    }
}
