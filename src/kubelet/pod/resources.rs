//! Requests and limits as cgroup settings.

use k3s_cri::LinuxResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::qos::Qos;
use crate::quantity::{ResourceList, millis, value};

const CPU_PERIOD: u64 = 100_000;
const MIN_CPU_QUOTA: i64 = 1000;
const MIN_CPU_SHARES: i64 = 2;
const MAX_CPU_SHARES: i64 = 262_144;

fn get(
    list: Option<&ResourceList>,
    name: &str,
    read: fn(&k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<i64>,
) -> i64 {
    list.and_then(|list| list.get(name)).and_then(read).unwrap_or(0)
}

/// CPU request in thousandths, defaulting to the limit.
pub(crate) fn cpu_request(resources: Option<&ResourceRequirements>) -> i64 {
    let Some(resources) = resources else { return 0 };
    match resources.requests.as_ref().and_then(|list| list.get("cpu")) {
        Some(request) => millis(request).unwrap_or(0),
        None => cpu_limit(Some(resources)),
    }
}

/// Memory request in bytes, defaulting to the limit.
pub(crate) fn memory_request(resources: Option<&ResourceRequirements>) -> i64 {
    let Some(resources) = resources else { return 0 };
    match resources.requests.as_ref().and_then(|list| list.get("memory")) {
        Some(request) => value(request).unwrap_or(0),
        None => memory_limit(Some(resources)),
    }
}

/// CPU limit in thousandths, 0 for none.
pub(crate) fn cpu_limit(resources: Option<&ResourceRequirements>) -> i64 {
    get(resources.and_then(|r| r.limits.as_ref()), "cpu", millis)
}

/// Memory limit in bytes, 0 for none.
pub(crate) fn memory_limit(resources: Option<&ResourceRequirements>) -> i64 {
    get(resources.and_then(|r| r.limits.as_ref()), "memory", value)
}

fn shares(milli_cpu: i64) -> u64 {
    (milli_cpu * 1024 / 1000).clamp(MIN_CPU_SHARES, MAX_CPU_SHARES) as u64
}

fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { 0 } else { (milli_cpu * CPU_PERIOD as i64 / 1000).max(MIN_CPU_QUOTA) }
}

/// The settings of a container's cgroup. `capacity` is the node's memory in bytes.
pub(crate) fn of_container(pod: &Pod, container: &Container, capacity: i64) -> LinuxResources {
    let resources = container.resources.as_ref();
    LinuxResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(cpu_limit(resources)),
        cpu_shares: shares(cpu_request(resources)),
        memory_limit: memory_limit(resources),
        oom_score_adj: oom_score_adj(pod, container, capacity),
        // A container that has too little memory ends as a whole, as with Kubernetes' kubelet on cgroup v2.
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    }
}

/// The settings of a pod's cgroup: the sum of its containers, limited only if every container is.
pub(crate) fn of_pod(pod: &Pod) -> LinuxResources {
    let Some(spec) = &pod.spec else { return LinuxResources::default() };
    let (cpu, memory) = requests_of_pod(pod);
    let limit = |read: fn(Option<&ResourceRequirements>) -> i64| {
        let own = spec.resources.as_ref().map(|resources| read(Some(resources))).unwrap_or(0);
        if own > 0 {
            return own;
        }
        let each: Vec<i64> = spec.containers.iter().map(|c| read(c.resources.as_ref())).collect();
        let init = spec.init_containers.iter().flatten().map(|c| read(c.resources.as_ref()));
        if each.contains(&0) || init.clone().any(|limit| limit == 0) {
            return 0;
        }
        each.iter().sum::<i64>().max(init.max().unwrap_or(0))
    };
    LinuxResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: quota(limit(cpu_limit)),
        cpu_shares: shares(cpu),
        memory_limit: if memory == 0 && limit(memory_limit) == 0 { 0 } else { limit(memory_limit) },
        ..Default::default()
    }
}

/// What a pod asks for: CPU in thousandths and memory in bytes. Sidecars count beside the containers, other init
/// containers only where one of them needs more than all of these.
pub(crate) fn requests_of_pod(pod: &Pod) -> (i64, i64) {
    let Some(spec) = &pod.spec else { return (0, 0) };
    let of = |read: fn(Option<&ResourceRequirements>) -> i64, name: &str| {
        if spec
            .resources
            .as_ref()
            .is_some_and(|r| [&r.requests, &r.limits].into_iter().flatten().any(|list| list.contains_key(name)))
        {
            return read(spec.resources.as_ref());
        }
        let mut sidecars = 0;
        let mut peak = 0;
        for container in spec.init_containers.iter().flatten() {
            let request = read(container.resources.as_ref());
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars += request;
                peak = peak.max(sidecars);
            } else {
                peak = peak.max(sidecars + request);
            }
        }
        let sum = spec.containers.iter().map(|c| read(c.resources.as_ref())).sum::<i64>() + sidecars;
        sum.max(peak) + get(spec.overhead.as_ref(), name, if name == "cpu" { millis } else { value })
    };
    (of(cpu_request, "cpu"), of(memory_request, "memory"))
}

/// Which process the kernel kills first when memory is short, as Kubernetes computes it.
fn oom_score_adj(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0) >= 2_000_000_000;
    match Qos::of(pod) {
        _ if critical => GUARANTEED,
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = memory_request(container.resources.as_ref());
            let adjust = 1000 - 1000 * request / capacity.max(1);
            // Never as safe as a guaranteed container, never as doomed as a best-effort one.
            adjust.clamp(1000 + GUARANTEED, 999)
        }
    }
}

/// Cgroup of a pod, relative to the delegated subtree.
pub(crate) fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match Qos::of(pod) {
        Qos::Guaranteed => format!("kubepods/pod{uid}"),
        Qos::Burstable => format!("kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("kubepods/besteffort/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn limits_become_quota_and_requests_become_shares() {
        let pod = pod(serde_json::json!({"containers": [{"name": "a", "resources": {
            "limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}]}));
        let resources = of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!(resources.cpu_quota, 50_000);
        assert_eq!(resources.cpu_shares, 256);
        assert_eq!(resources.memory_limit, 64 << 20);
        assert_eq!(resources.oom_score_adj, 1000 - 62);
        assert_eq!(cgroup_parent(&pod), "kubepods/burstable/podu");
    }

    #[test]
    fn a_pod_asks_for_the_larger_of_its_containers_and_its_init_containers() {
        let pod = pod(serde_json::json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "init", "resources": {"requests": {"cpu": "1"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "200m"}}}]}));
        assert_eq!(requests_of_pod(&pod).0, 1100);
    }
}
