//! Between versions that serve the same objects: the one that is stored and the others.
//!
//! Nothing is lost on the way there and back: what an older version has no field for, it carries in annotations, as
//! Kubernetes does.

pub mod event;
pub mod horizontal_pod_autoscaler;

use serde_json::Value;

use crate::presence;
use crate::resource::{self, Resource};

/// The object of the row's version in the version that is stored.
pub fn to_stored(resource: &Resource, object: &mut Value) {
    if resource.is_storage_version() {
        return;
    }
    (resource.strategy.to_stored)(object);
    let stored = resource::builtin().iter().find(|row| {
        row.group == resource.storage_group && row.version == resource.storage_version && row.kind == resource.kind
    });
    if let Some(stored) = stored {
        object["apiVersion"] = stored.api_version().into();
        presence::normalize(object, stored.schema());
    }
}

/// The stored object in the row's version.
pub fn from_stored(resource: &Resource, object: &mut Value) {
    if resource.is_storage_version() {
        return;
    }
    (resource.strategy.from_stored)(object);
    object["apiVersion"] = resource.api_version().into();
    presence::normalize(object, resource.schema());
}

/// Moves fields of an object to their names in another version.
fn rename(object: &mut Value, names: &[(&str, &str)]) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(*from) {
            fields.insert((*to).to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn there_and_back(group: &str, plural: &str, object: Value) -> Value {
        let resource = resource::find(group, "v1", plural).unwrap();
        let mut value = object.clone();
        presence::normalize(&mut value, resource.schema());
        let before = value.clone();
        to_stored(resource, &mut value);
        let stored = value.clone();
        from_stored(resource, &mut value);
        assert_eq!(value, before);
        stored
    }

    #[test]
    fn events_are_stored_in_the_core_group() {
        let stored = there_and_back(
            "events.k8s.io",
            "events",
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n",
                "regarding": {"kind": "Pod", "name": "p"}, "reportingController": "c", "eventTime": "2024-01-01T00:00:00.000000Z"}),
        );
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!((&stored["message"], &stored["involvedObject"]["name"]), (&json!("n"), &json!("p")));
        assert_eq!((&stored["source"], &stored["firstTimestamp"]), (&json!({}), &Value::Null));
    }

    #[test]
    fn an_autoscaler_of_one_metric_is_stored_as_one_of_many() {
        let stored = there_and_back(
            "autoscaling",
            "horizontalpodautoscalers",
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
                "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"kind": "D", "name": "d"}},
                "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 50}}),
        );
        assert_eq!(stored["apiVersion"], "autoscaling/v2");
        assert_eq!(
            stored["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}])
        );
        assert_eq!(stored["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"], 50);
    }

    #[test]
    fn what_the_old_version_cannot_say_is_in_annotations() {
        let resource = resource::find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let stored = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}, "behavior": {"scaleUp": {"selectPolicy": "Max"}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]},
            "status": {"desiredReplicas": 0, "currentMetrics": null,
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": null}]}});
        let mut value = stored.clone();
        from_stored(resource, &mut value);
        assert_eq!(value["spec"]["targetCPUUtilizationPercentage"], 70);
        let annotations = value["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(
            annotations["autoscaling.alpha.kubernetes.io/metrics"],
            r#"[{"resource":{"name":"memory","targetAverageValue":"1Gi"},"type":"Resource"}]"#
        );
        assert!(annotations.contains_key("autoscaling.alpha.kubernetes.io/behavior"));
        to_stored(resource, &mut value);
        assert_eq!(value, stored);
    }
}
