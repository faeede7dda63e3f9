//! Quality of service classes.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use crate::quantity::{ResourceList, millis};

/// How a pod fares when the node is short of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod: that of its pod-level resources if it has them, else that of all its containers.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Qos::BestEffort };
        let pod_level = spec.resources.as_ref().filter(|r| r.limits.is_some() || r.requests.is_some());
        let all: Vec<Option<&ResourceRequirements>> = match pod_level {
            Some(resources) => vec![Some(resources)],
            None => spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
                .map(|container| container.resources.as_ref())
                .collect(),
        };
        if !all.iter().flatten().any(|r| mentions(r.requests.as_ref()) || mentions(r.limits.as_ref())) {
            return Qos::BestEffort;
        }
        if all.iter().all(|r| r.is_some_and(guaranteed)) { Qos::Guaranteed } else { Qos::Burstable }
    }
}

fn positive(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).and_then(millis).filter(|value| *value > 0)
}

fn mentions(list: Option<&ResourceList>) -> bool {
    ["cpu", "memory"].iter().any(|name| positive(list, name).is_some())
}

fn guaranteed(resources: &ResourceRequirements) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = positive(resources.limits.as_ref(), name);
        // An absent request is defaulted to the limit.
        let request = positive(resources.requests.as_ref(), name).or(limit);
        limit.is_some() && limit == request
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(containers: serde_json::Value) -> Qos {
        let pod = serde_json::json!({"spec": {"containers": containers}});
        Qos::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_pod_without_requests_is_best_effort() {
        assert_eq!(class(serde_json::json!([{"name": "a"}])), Qos::BestEffort);
        let zero = serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]);
        assert_eq!(class(zero), Qos::BestEffort);
    }

    #[test]
    fn equal_limits_and_requests_in_all_containers_guarantee() {
        let guaranteed = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}});
        assert_eq!(class(serde_json::json!([{"name": "a", "resources": guaranteed}])), Qos::Guaranteed);
        assert_eq!(class(serde_json::json!([{"name": "a", "resources": guaranteed}, {"name": "b"}])), Qos::Burstable);
    }

    #[test]
    fn a_lone_request_makes_it_burstable() {
        let request = serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]);
        assert_eq!(class(request), Qos::Burstable);
    }
}
