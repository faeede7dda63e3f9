//! HorizontalPodAutoscalers and Scales.

use serde_json::Value;

use super::names;
use super::node::{Errors, Node};

/// `autoscaling/v1`, which knows one metric.
pub fn v1(autoscaler: &Value, errors: &mut Errors) {
    let root = Node::root(autoscaler);
    let spec = root.field("spec");
    common(&spec, errors);
    let percentage = spec.field("targetCPUUtilizationPercentage");
    if percentage.int().is_some_and(|value| value < 1) {
        percentage.invalid(errors, "must be greater than 0");
    }
}

pub fn v2(autoscaler: &Value, errors: &mut Errors) {
    let root = Node::root(autoscaler);
    let spec = root.field("spec");
    common(&spec, errors);
    spec.field("metrics").items().for_each(|metric| self::metric(&metric, errors));
    let behavior = spec.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.field(direction);
        rules.field("stabilizationWindowSeconds").non_negative(errors);
        if rules.field("stabilizationWindowSeconds").int().is_some_and(|seconds| seconds > 3600) {
            rules.field("stabilizationWindowSeconds").invalid(errors, "must be less than or equal to 3600");
        }
        if rules.field("selectPolicy").is_set() {
            rules.field("selectPolicy").one_of(errors, &["Disabled", "Max", "Min"]);
        }
        for policy in rules.field("policies").items() {
            policy.field("type").one_of(errors, &["Percent", "Pods"]);
            for (field, high) in [("value", i64::MAX), ("periodSeconds", 1800)] {
                let number = policy.field(field);
                match number.int().unwrap_or(0) {
                    value if value <= 0 => number.invalid(errors, "must be greater than zero"),
                    value if value > high => number.invalid(errors, format!("must be less than or equal to {high}")),
                    _ => {}
                }
            }
        }
    }
}

fn common(spec: &Node, errors: &mut Errors) {
    let (min, max) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    if min.int().is_some_and(|count| count < 1) {
        min.invalid(errors, "must be greater than or equal to 1");
    }
    let most = max.int().unwrap_or(0);
    if most < 1 {
        max.required(errors, "must be set and greater than 0");
    }
    if min.int().is_some_and(|least| most < least) {
        max.invalid(errors, "must be greater than or equal to `minReplicas`");
    }
    target(&spec.field("scaleTargetRef"), errors);
}

fn target(target: &Node, errors: &mut Errors) {
    for field in ["kind", "name"] {
        let text = target.field(field);
        match text.is_empty() {
            true => text.required(errors, ""),
            false => text.invalid_text(errors, names::path_segment(text.text())),
        }
    }
    let version = target.field("apiVersion");
    if version.is_empty() {
        version.invalid_text(errors, ["apiVersion must specify API group"]);
    }
}

fn metric(metric: &Node, errors: &mut Errors) {
    let kinds = [
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
        ("External", "external"),
        ("ContainerResource", "containerResource"),
    ];
    let kind = metric.field("type");
    let Some((_, field)) = kinds.iter().find(|(name, _)| *name == kind.text()) else {
        match kind.is_empty() {
            true => kind.required(errors, "must specify a metric source type"),
            false => kind.not_supported(errors, &["ContainerResource", "External", "Object", "Pods", "Resource"]),
        }
        return;
    };
    let source = metric.field(field);
    if !source.is_set() {
        source.required(errors, "must populate information for the given metric source");
        return;
    }
    for (_, other) in kinds.iter().filter(|(name, _)| *name != kind.text()) {
        if metric.field(other).is_set() {
            metric.field(other).forbidden(errors, "must populate the given metric source only");
        }
    }
    let target = source.field("target");
    target.field("type").one_of(errors, &["AverageValue", "Utilization", "Value"]);
    match *field {
        "resource" | "containerResource" => {
            source.field("name").require(errors);
            let (utilization, average) = (target.field("averageUtilization"), target.field("averageValue"));
            if !utilization.is_set() && !average.is_set() {
                utilization.required(errors, "must set either a target raw value or a target utilization");
            }
            if utilization.int().is_some_and(|value| value < 1) {
                utilization.invalid(errors, "must be greater than 0");
            }
            if utilization.is_set() && average.is_set() {
                average.forbidden(errors, "may not set both a target raw value and a target utilization");
            }
        }
        _ => {
            let name = source.field("metric");
            name.field("name").require(errors);
            let (value, average) = (target.field("value"), target.field("averageValue"));
            if !value.is_set() && !average.is_set() {
                average.required(errors, "must set either a target value for metric or a per-pod target");
            }
        }
    }
}

/// The body of a `scale` subresource.
pub fn scale(scale: &Value, errors: &mut Errors) {
    let root = Node::root(scale);
    let spec = root.field("spec");
    spec.field("replicas").non_negative(errors);
}
