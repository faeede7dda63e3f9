//! Nodes, with what their pods ask for.

use k3s_api::quantity::Quantity;
use serde_json::Value;

use super::{Writer, age, items, or, text, time};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::line;
use crate::target::CHUNK;

const ROLE: &str = "node-role.kubernetes.io/";

pub async fn describe(writer: &mut Writer, cluster: &Cluster, node: &Value) -> Result<(), Error> {
    let name = k3s_api::object::name(node);
    let (spec, status) = (&node["spec"], &node["status"]);
    line!(writer, 0, "Name:\t{name}");
    let roles: Vec<&str> = k3s_api::object::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix(ROLE))
        .filter(|role| !role.is_empty())
        .collect();
    line!(writer, 0, "Roles:\t{}", if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") });
    writer.map(0, "Labels:", k3s_api::object::labels(node));
    writer.annotations(node);
    line!(writer, 0, "CreationTimestamp:\t{}", time(&node["metadata"]["creationTimestamp"]));
    taints(writer, &spec["taints"]);
    line!(writer, 0, "Unschedulable:\t{}", spec["unschedulable"] == true);
    lease(writer, cluster, name).await?;
    writer.conditions(
        node,
        &[
            ("Type", "type"),
            ("Status", "status"),
            ("LastHeartbeatTime", "lastHeartbeatTime"),
            ("LastTransitionTime", "lastTransitionTime"),
            ("Reason", "reason"),
            ("Message", "message"),
        ],
    );
    line!(writer, 0, "Addresses:");
    for address in items(&status["addresses"]) {
        line!(writer, 1, "{}:\t{}", text(&address["type"]), text(&address["address"]));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if let Some(resources) = status[field].as_object().filter(|map| !map.is_empty()) {
            line!(writer, 0, "{title}:");
            for (resource, quantity) in resources {
                line!(writer, 1, "{resource}:\t{}", text(quantity));
            }
        }
    }
    let info = &status["nodeInfo"];
    line!(writer, 0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        line!(writer, 1, "{title}:\t{}", text(&info[field]));
    }
    line!(writer, 1, "Kube-Proxy Version:\t{}", text(&info["kubeProxyVersion"]));
    for (title, field) in [("PodCIDR", "podCIDR"), ("ProviderID", "providerID")] {
        if !text(&spec[field]).is_empty() {
            line!(writer, 0, "{title}:\t{}", text(&spec[field]));
        }
        if field == "podCIDR" && items(&spec["podCIDRs"]).count() > 0 {
            line!(writer, 0, "PodCIDRs:\t{}", super::joined(&spec["podCIDRs"], ","));
        }
    }
    let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    let pods = cluster.list("/api/v1/pods", &Query::new().with("fieldSelector", &selector), CHUNK).await?;
    self::pods(writer, &pods, &status["allocatable"]);
    Ok(())
}

fn taints(writer: &mut Writer, taints: &Value) {
    let mut title = "Taints:";
    for taint in items(taints) {
        let value = text(&taint["value"]);
        let value = if value.is_empty() { value } else { format!("={value}") };
        line!(writer, 0, "{title}\t{}{value}:{}", text(&taint["key"]), text(&taint["effect"]));
        title = "";
    }
    if !title.is_empty() {
        line!(writer, 0, "{title}\t<none>");
    }
}

async fn lease(writer: &mut Writer, cluster: &Cluster, name: &str) -> Result<(), Error> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
    match cluster.get_optional(&path).await? {
        None => line!(writer, 0, "Lease:\tFailed to get lease: leases.coordination.k8s.io \"{name}\" not found"),
        Some(lease) => {
            let spec = &lease["spec"];
            line!(writer, 0, "Lease:");
            line!(writer, 1, "HolderIdentity:\t{}", or(&spec["holderIdentity"], "<unset>"));
            line!(writer, 1, "AcquireTime:\t{}", or(&Value::String(time(&spec["acquireTime"])), "<unset>"));
            line!(writer, 1, "RenewTime:\t{}", or(&Value::String(time(&spec["renewTime"])), "<unset>"));
        }
    }
    Ok(())
}

/// What the pods ask for, and of how much.
fn pods(writer: &mut Writer, pods: &Value, allocatable: &Value) {
    let all: Vec<&Value> = items(&pods["items"]).collect();
    line!(writer, 0, "Non-terminated Pods:\t({} in total)", all.len());
    line!(writer, 1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    line!(writer, 1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let available = |resource: &str| allocatable[resource].as_str().and_then(|text| text.parse::<Quantity>().ok());
    let share = |amount: Quantity, resource: &str| {
        let whole = available(resource).map_or(0.0, Quantity::as_f64);
        let percent = if whole > 0.0 { (amount.as_f64() / whole * 100.0) as i64 } else { 0 };
        format!("{amount} ({percent}%)")
    };
    for pod in &all {
        let cell = |kind: &str, resource: &str| share(total(pod, kind, resource), resource);
        line!(
            writer,
            1,
            "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
            k3s_api::object::namespace(pod),
            k3s_api::object::name(pod),
            cell("requests", "cpu"),
            cell("limits", "cpu"),
            cell("requests", "memory"),
            cell("limits", "memory"),
            age(&pod["metadata"]["creationTimestamp"])
        );
    }
    line!(writer, 0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    line!(writer, 1, "Resource\tRequests\tLimits\n  --------\t--------\t------");
    let sum = |kind: &str, resource: &str| all.iter().fold(Quantity::ZERO, |sum, pod| sum + total(pod, kind, resource));
    let mut resources = vec!["cpu".to_owned(), "memory".to_owned(), "ephemeral-storage".to_owned()];
    let named = allocatable.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    resources.extend(named.filter(|name| !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pods")));
    for resource in resources {
        let (requests, limits) = (sum("requests", &resource), sum("limits", &resource));
        if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-") {
            line!(writer, 1, "{resource}\t{}\t{}", share(requests, &resource), share(limits, &resource));
        } else {
            line!(writer, 1, "{resource}\t{requests}\t{limits}");
        }
    }
}

/// What a pod's containers ask for together; init containers run one after the other, so the greatest counts.
fn total(pod: &Value, kind: &str, resource: &str) -> Quantity {
    let amount = |container: &Value| {
        container["resources"][kind][resource].as_str().and_then(|text| text.parse().ok()).unwrap_or(Quantity::ZERO)
    };
    let spec = &pod["spec"];
    let mut sum = items(&spec["containers"]).fold(Quantity::ZERO, |sum, container| sum + amount(container));
    let mut sidecars = Quantity::ZERO;
    let mut greatest = Quantity::ZERO;
    for container in items(&spec["initContainers"]) {
        if container["restartPolicy"] == "Always" {
            sidecars += amount(container);
            greatest = greatest.max(sidecars);
        } else {
            greatest = greatest.max(sidecars + amount(container));
        }
    }
    sum = (sum + sidecars).max(greatest);
    match spec["overhead"][resource].as_str().and_then(|text| text.parse::<Quantity>().ok()) {
        Some(overhead) if kind == "requests" || !sum.is_zero() => sum + overhead,
        _ => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_asks_for_its_containers_or_its_greatest_init_container() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut pod = json!({"spec": {"containers": [container("100m"), container("200m")]}});
        assert_eq!(total(&pod, "requests", "cpu").to_string(), "300m");
        pod["spec"]["initContainers"] = json!([container("1")]);
        assert_eq!(total(&pod, "requests", "cpu").to_string(), "1");
        assert!(total(&pod, "limits", "cpu").is_zero());
    }
}
