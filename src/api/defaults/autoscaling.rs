//! autoscaling

use serde_json::{Value, json};

use super::{at, field, fill};

pub fn v1(autoscaler: &mut Value) {
    if let Some(spec) = field(autoscaler, "spec") {
        fill!(spec, "minReplicas": 1);
    }
}

/// Without a metric, 80 % of the requested CPU.
pub fn v2(autoscaler: &mut Value) {
    let Some(spec) = field(autoscaler, "spec") else { return };
    fill!(spec, "minReplicas": 1, "metrics": [{"type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    if field(spec, "behavior").is_none() {
        return;
    }
    let rules = [
        (
            "scaleUp",
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]}),
        ),
        (
            "scaleDown",
            json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}),
        ),
    ];
    for (direction, defaults) in rules {
        fill(super::object(spec, "behavior"), direction, json!({}));
        let Some(rule) = at(spec, &["behavior", direction]) else { continue };
        for (name, default) in defaults.as_object().into_iter().flatten() {
            fill(rule, name, default.clone());
        }
    }
}
