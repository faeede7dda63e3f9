//! Whether this node takes a pod that was bound to it.

use k8s_openapi::api::core::v1::Pod;

use super::resources::requests_of_pod;
use super::spec;
use crate::context::Context;
use crate::quantity::{millis, value};

/// Why a pod is refused: the reason and message of its failure.
pub(crate) type Refusal = (String, String);

/// Refuses a new pod that does not fit beside those that are here. The scheduler has checked the same; pods bound by
/// hand, or by two schedulers at once, come past it.
pub(crate) fn admit(ctx: &Context, pod: &Pod) -> Result<(), Refusal> {
    let begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if begun || spec::has_ended(pod) || spec::is_deleted(pod) {
        return Ok(());
    }
    let others = ctx.pods.list();
    let others: Vec<&Pod> = others
        .iter()
        .map(|other| other.as_ref())
        .filter(|other| other.metadata.uid != pod.metadata.uid && !spec::has_ended(other))
        // Pods that have not begun yet come after this one.
        .filter(|other| other.status.as_ref().is_some_and(|status| status.start_time.is_some()))
        .collect();
    fits(&ctx.facts.allocatable(), &others, pod)
}

fn fits(allocatable: &crate::quantity::ResourceList, others: &[&Pod], pod: &Pod) -> Result<(), Refusal> {
    let refuse = |resource: &str, requested: i64, used: i64, capacity: i64| {
        let message = format!(
            "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
             capacity: {capacity}"
        );
        Err((format!("OutOf{resource}"), message))
    };
    let pods = allocatable.get("pods").and_then(value).unwrap_or(0);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count + 1 > pods {
        return refuse("pods", 1, count, pods);
    }
    let (cpu, memory) = requests_of_pod(pod);
    let used = others.iter().map(|other| requests_of_pod(other)).fold((0, 0), |sum, r| (sum.0 + r.0, sum.1 + r.1));
    let has_cpu = allocatable.get("cpu").and_then(millis).unwrap_or(0);
    if cpu > 0 && used.0 + cpu > has_cpu {
        return refuse("cpu", cpu, used.0, has_cpu);
    }
    let has_memory = allocatable.get("memory").and_then(value).unwrap_or(0);
    if memory > 0 && used.1 + memory > has_memory {
        return refuse("memory", memory, used.1, has_memory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::facts::Facts;

    fn pod(cpu: &str) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
        .unwrap()
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_with_kubernetes_reason() {
        let allocatable = Facts::for_tests().allocatable();
        let other = pod("3");
        assert_eq!(fits(&allocatable, &[&other], &pod("1")), Ok(()));
        let (reason, message) = fits(&allocatable, &[&other], &pod("1500m")).unwrap_err();
        assert_eq!(reason, "OutOfcpu");
        assert!(message.ends_with("cpu, requested: 1500, used: 3000, capacity: 4000"), "{message}");
        assert_eq!(fits(&allocatable, &[&other], &pod("0")), Ok(()));
    }
}
