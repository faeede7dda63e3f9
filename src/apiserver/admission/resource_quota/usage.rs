//! What an object uses, by the names that quotas have for it.

use std::collections::BTreeMap;

use k3s_api::object::{at, text};
use k3s_api::quantity::{Format, Quantity};
use k3s_api::resource::Resource;
use serde_json::Value;

use crate::admission::limit_ranger::{Usage, quantity};

/// Amounts by name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

pub(super) fn units(count: usize) -> Quantity {
    Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// What one object uses.
pub(super) fn of(row: &Resource, object: &Value) -> Amounts {
    let mut usage = counted(row, 1);
    if !row.group.is_empty() {
        return usage;
    }
    match &*row.plural {
        "services" => service(object, &mut usage),
        "persistentvolumeclaims" => claim(object, &mut usage),
        "pods" if is_over(object) => {}
        "pods" => pod(object, &mut usage),
        _ => {}
    }
    usage
}

/// What objects use by their number alone.
pub(super) fn counted(row: &Resource, count: usize) -> Amounts {
    let mut usage = Amounts::from([(count_name(&row.group, &row.plural), units(count))]);
    let counts = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas", "services"];
    if row.group.is_empty() && counts.contains(&&*row.plural) {
        usage.insert(row.plural.to_string(), units(count));
    }
    usage
}

/// `count/deployments.apps`
fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// The group and the plural name of the resource whose objects use what has this name.
pub(super) fn counts_of(name: &str) -> Option<(&str, &str)> {
    if let Some(resource) = name.strip_prefix("count/") {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        return Some((group, plural));
    }
    let plural = match name {
        "configmaps"
        | "secrets"
        | "replicationcontrollers"
        | "resourcequotas"
        | "services"
        | "pods"
        | "persistentvolumeclaims" => name,
        _ if name.starts_with("services.") => "services",
        "requests.storage" => "persistentvolumeclaims",
        _ if name.contains(".storageclass.storage.k8s.io/") => "persistentvolumeclaims",
        "cpu" | "memory" | "ephemeral-storage" => "pods",
        _ if name.starts_with("requests.") || name.starts_with("limits.") || name.starts_with("hugepages-") => "pods",
        _ => return None,
    };
    Some(("", plural))
}

/// Whether all objects of a resource use the same, so that none has to be looked at.
pub(super) fn is_plain(row: &Resource) -> bool {
    !(row.group.is_empty() && matches!(&*row.plural, "services" | "persistentvolumeclaims" | "pods"))
}

/// A pod that has run to its end uses nothing but its name.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"))
}

fn service(object: &Value, usage: &mut Amounts) {
    let all = at(object, &["spec", "ports"]).and_then(Value::as_array);
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let allocated = at(object, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    let fixed = || all.iter().filter(|port| port["nodePort"].as_u64().unwrap_or_default() > 0).count();
    match text(object, &["spec", "type"]) {
        Some("NodePort") => drop(usage.insert("services.nodeports".to_owned(), units(all.len()))),
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".to_owned(), units(1));
            let ports = if allocated { all.len() } else { fixed() };
            usage.insert("services.nodeports".to_owned(), units(ports));
        }
        _ => {}
    }
}

fn claim(object: &Value, usage: &mut Amounts) {
    usage.insert("persistentvolumeclaims".to_owned(), units(1));
    let Some(storage) = at(object, &["spec", "resources", "requests", "storage"]).and_then(quantity) else { return };
    usage.insert("requests.storage".to_owned(), storage);
    if let Some(class) = text(object, &["spec", "storageClassName"]).filter(|class| !class.is_empty()) {
        let prefix = format!("{class}.storageclass.storage.k8s.io");
        usage.insert(format!("{prefix}/requests.storage"), storage);
        usage.insert(format!("{prefix}/persistentvolumeclaims"), units(1));
    }
}

fn pod(object: &Value, usage: &mut Amounts) {
    usage.insert("pods".to_owned(), units(1));
    let resources = Usage::of_pod(object);
    for (name, amount) in resources.requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    usage.extend(resources.limits.into_iter().map(|(name, amount)| (format!("limits.{name}"), amount)));
}

#[cfg(test)]
mod tests {
    use k3s_api::resource;
    use serde_json::json;

    use super::*;

    fn shown(plural: &str, object: Value) -> Vec<String> {
        let row = resource::find("", "v1", plural).unwrap();
        of(row, &object).iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn objects_use_what_kubernetes_counts() {
        assert_eq!(shown("configmaps", json!({})), ["configmaps=1", "count/configmaps=1"]);
        let ports = json!([{"port": 1, "nodePort": 30000}, {"port": 2}]);
        let balanced =
            json!({"spec": {"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}});
        assert_eq!(
            shown("services", balanced),
            ["count/services=1", "services=1", "services.loadbalancers=1", "services.nodeports=1"]
        );
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            shown("persistentvolumeclaims", claim),
            [
                "count/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=1Gi",
                "persistentvolumeclaims=1",
                "requests.storage=1Gi"
            ]
        );
        let mut pod = json!({"spec": {"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "100m"}, "limits": {"memory": "1Mi"}}}]}});
        assert_eq!(
            shown("pods", pod.clone()),
            ["count/pods=1", "cpu=100m", "limits.memory=1Mi", "pods=1", "requests.cpu=100m"]
        );
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(shown("pods", pod), ["count/pods=1"]);
    }

    #[test]
    fn names_lead_to_resources() {
        for (name, expected) in [
            ("count/deployments.apps", Some(("apps", "deployments"))),
            ("count/widgets.g.example", Some(("g.example", "widgets"))),
            ("count/pods", Some(("", "pods"))),
            ("limits.cpu", Some(("", "pods"))),
            ("requests.nvidia.com/gpu", Some(("", "pods"))),
            ("requests.storage", Some(("", "persistentvolumeclaims"))),
            ("x.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims"))),
            ("services.nodeports", Some(("", "services"))),
            ("nonsense", None),
        ] {
            assert_eq!(counts_of(name), expected, "{name}");
        }
    }
}
