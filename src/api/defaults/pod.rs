//! Pods, and the pod templates of workloads.

use serde_json::{Map, Value, json};

use super::{at, field, fill, items, text, volume};

/// The lists of containers in a pod's spec.
pub const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod: as a template, and what a template leaves open.
pub fn pod(pod: &mut Value) {
    let Some(spec) = field(pod, "spec") else { return };
    fill!(spec, "enableServiceLinks": true);
    pod_spec(spec);
    let host_network = spec["hostNetwork"] == true;
    for list in CONTAINERS {
        for container in items(spec, list) {
            if host_network {
                host_ports(container);
            }
            requests_from_limits(container);
        }
    }
    requests_from_limits(spec);
    if let Some(ips) = pod.get("status").and_then(|status| status.get("podIPs")).and_then(|ips| ips.get(0)) {
        let ip = ips["ip"].clone();
        fill(&mut pod["status"], "podIP", ip);
    }
}

/// The pod template of a workload, below its spec.
pub fn template(workload: &mut Value) {
    if let Some(spec) = at(workload, &["spec", "template", "spec"]) {
        pod_spec(spec);
    }
}

/// What pods and templates have in common.
pub fn pod_spec(spec: &mut Value) {
    fill!(spec, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
        "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler");
    service_account(spec);
    for list in CONTAINERS {
        items(spec, list).for_each(container);
    }
    items(spec, "volumes").for_each(volume::pod_volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are served.
fn service_account(spec: &mut Value) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        spec["serviceAccount"] = name.clone().into();
        spec["serviceAccountName"] = name.into();
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "image"));
    fill!(container, "imagePullPolicy": policy, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File");
    for env in items(container, "env") {
        if let Some(reference) = at(env, &["valueFrom", "fieldRef"]) {
            fill!(reference, "apiVersion": "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = field(container, name) {
            fill!(probe, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3);
            handler(probe);
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(hook) = at(container, &["lifecycle", name]) {
            handler(hook);
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(get) = field(handler, "httpGet") {
        fill!(get, "path": "/", "scheme": "HTTP");
    }
    if let Some(grpc) = field(handler, "grpc") {
        fill!(grpc, "service": "");
    }
}

/// An image that may be another tomorrow is pulled each time.
pub fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let (name, has_digest) = name.split_once('@').map_or((name, false), |(name, _)| (name, true));
    match name.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !has_digest => "Always",
        _ => "IfNotPresent",
    }
}

fn host_ports(container: &mut Value) {
    for port in items(container, "ports") {
        let number = port["containerPort"].clone();
        fill(port, "hostPort", number);
    }
}

/// What a container may use at most is also what it asks for, unless it says otherwise.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = field(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = super::object(resources, "requests");
    for (name, limit) in limits {
        fill(requests, &name, limit);
    }
}

/// What a new pod's status says, before anything has looked at it.
pub fn initial_status(pod: &mut Value) {
    let class = qos_class(pod.get("spec").unwrap_or(&Value::Null));
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// How the pod is treated when its node runs out of resources: by what its containers ask for and may use.
pub fn qos_class(spec: &Value) -> &'static str {
    let empty = Map::new();
    let (mut any, mut guaranteed) = (false, true);
    let containers =
        ["initContainers", "containers"].iter().filter_map(|list| spec.get(list)).filter_map(Value::as_array).flatten();
    for container in containers {
        let amounts = |which: &str| {
            container.get("resources").and_then(|all| all.get(which)).and_then(Value::as_object).unwrap_or(&empty)
        };
        for resource in ["cpu", "memory"] {
            let amount = |which: &str| {
                let quantity = amounts(which).get(resource)?.as_str()?.parse::<crate::quantity::Quantity>().ok()?;
                (!quantity.is_zero()).then_some(quantity)
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_a_moving_tag_are_pulled_each_time() {
        for (image, policy) in [
            ("busybox", "Always"),
            ("busybox:latest", "Always"),
            ("busybox:1.36", "IfNotPresent"),
            ("host:5000/busybox", "Always"),
            ("host:5000/busybox:1", "IfNotPresent"),
            ("busybox@sha256:0123", "IfNotPresent"),
            ("busybox:latest@sha256:0123", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn the_quality_of_service_follows_the_resources() {
        let class = |resources: Value| qos_class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let all = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(class(json!({"requests": all, "limits": all})), "Guaranteed");
        assert_eq!(
            class(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})),
            "Burstable"
        );
    }

    #[test]
    fn limits_are_requests() {
        let mut value = json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "image": "i",
            "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]}});
        pod(&mut value);
        let container = &value["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["ports"][0]["hostPort"], 80);
        assert_eq!(value["spec"]["enableServiceLinks"], true);
    }
}
