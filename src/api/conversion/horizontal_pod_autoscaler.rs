//! `autoscaling/v1`, which knows one metric, and `autoscaling/v2`, which is stored.

use serde_json::{Map, Value, json};

use crate::defaults::{field, object};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// `v1` to `v2`.
pub fn to_stored(autoscaler: &mut Value) {
    let metrics = take_annotation(autoscaler, METRICS);
    let current = take_annotation(autoscaler, CURRENT_METRICS);
    let conditions = take_annotation(autoscaler, CONDITIONS);
    let behavior = take_annotation(autoscaler, BEHAVIOR);
    if let Some(spec) = field(autoscaler, "spec") {
        let cpu = take(spec, "targetCPUUtilizationPercentage").map(|percentage| {
            json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percentage}}})
        });
        let others = list(metrics).into_iter().map(|metric| convert(metric, to_v2_spec));
        set_list(spec, "metrics", cpu.into_iter().chain(others).collect());
        if let Some(behavior) = behavior {
            spec["behavior"] = behavior;
        }
    }
    if let Some(status) = field(autoscaler, "status") {
        let cpu = take(status, "currentCPUUtilizationPercentage").map(|percentage| {
            json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percentage}}})
        });
        let others = list(current).into_iter().map(|metric| convert(metric, to_v2_status));
        set_list(status, "currentMetrics", cpu.into_iter().chain(others).collect());
        set_list(status, "conditions", list(conditions));
    }
}

/// `v2` to `v1`.
pub fn from_stored(autoscaler: &mut Value) {
    let mut annotations = Map::new();
    let mut keep = |name: &str, value: Value| {
        if value.as_array().is_none_or(|items| !items.is_empty()) {
            annotations.insert(name.to_owned(), value.to_string().into());
        }
    };
    if let Some(spec) = field(autoscaler, "spec") {
        let mut metrics = list(take(spec, "metrics"));
        let cpu = metrics.iter().position(|metric| cpu_percentage(metric, "target").is_some());
        if let Some(index) = cpu {
            spec["targetCPUUtilizationPercentage"] =
                metrics.remove(index)["resource"]["target"]["averageUtilization"].take();
        }
        keep(METRICS, metrics.into_iter().map(|metric| convert(metric, to_v1_spec)).collect());
        if let Some(behavior) = take(spec, "behavior") {
            keep(BEHAVIOR, behavior);
        }
    }
    if let Some(status) = field(autoscaler, "status") {
        let mut metrics = list(take(status, "currentMetrics"));
        let cpu = metrics.iter().position(|metric| cpu_percentage(metric, "current").is_some());
        if let Some(index) = cpu {
            status["currentCPUUtilizationPercentage"] =
                metrics.remove(index)["resource"]["current"]["averageUtilization"].take();
        }
        keep(CURRENT_METRICS, metrics.into_iter().map(|metric| convert(metric, to_v1_status)).collect());
        keep(CONDITIONS, list(take(status, "conditions")).into());
    }
    if !annotations.is_empty() {
        let all = object(object(autoscaler, "metadata"), "annotations");
        for (name, value) in annotations {
            all[name] = value;
        }
    }
}

fn cpu_percentage<'a>(metric: &'a Value, amounts: &str) -> Option<&'a Value> {
    let resource = metric.get("resource").filter(|resource| resource["name"] == "cpu")?;
    resource.get(amounts)?.get("averageUtilization").filter(|percentage| percentage.is_number())
}

fn take(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut()?.remove(name).filter(|value| !value.is_null())
}

fn take_annotation(autoscaler: &mut Value, name: &str) -> Option<Value> {
    let annotations = autoscaler.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    // What is no JSON was written by a user for himself.
    let value = serde_json::from_str(annotations.get(name)?.as_str()?).ok()?;
    annotations.remove(name);
    Some(value)
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn set_list(object: &mut Value, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        object[name] = items.into();
    }
}

/// Converts what a metric says of its source, whichever kind it is of.
fn convert(metric: Value, source: fn(&str, Map<String, Value>) -> Map<String, Value>) -> Value {
    let Value::Object(fields) = metric else { return metric };
    let converted = fields.into_iter().map(|(name, value)| match value {
        Value::Object(fields) => {
            let value = source(&name, fields).into();
            (name, value)
        }
        value => (name, value),
    });
    Value::Object(converted.collect())
}

/// The name of each amount in `v1`, where it is a field of the source, and in `v2`, where it is one of the target.
fn amounts(kind: &str, prefix: &str) -> Vec<(String, &'static str)> {
    let plain = |name: &str| match prefix {
        "target" => format!("target{name}"),
        _ => format!("current{name}"),
    };
    match kind {
        "resource" | "containerResource" => {
            vec![(plain("AverageUtilization"), "averageUtilization"), (plain("AverageValue"), "averageValue")]
        }
        "pods" => vec![(plain("AverageValue"), "averageValue")],
        "object" => vec![(plain("Value"), "value"), ("averageValue".to_owned(), "averageValue")],
        _ => vec![(plain("Value"), "value"), (plain("AverageValue"), "averageValue")],
    }
}

/// How the metric is named in `v1`, flat, and in `v2`, as an object.
fn selector_name(kind: &str) -> &'static str {
    if kind == "external" { "metricSelector" } else { "selector" }
}

fn to_v1(kind: &str, mut v2: Map<String, Value>, part: &str) -> Map<String, Value> {
    let mut v1 = Map::new();
    if let Some(Value::Object(mut metric)) = v2.remove("metric") {
        metric.remove("name").and_then(|name| v1.insert("metricName".into(), name));
        metric.remove("selector").and_then(|selector| v1.insert(selector_name(kind).into(), selector));
    }
    if let Some(Value::Object(mut values)) = v2.remove(part) {
        for (old, new) in amounts(kind, part) {
            values.remove(new).and_then(|value| v1.insert(old, value));
        }
    }
    if let Some(described) = v2.remove("describedObject") {
        v1.insert("target".into(), described);
    }
    v1.extend(v2);
    v1
}

fn to_v2(kind: &str, mut v1: Map<String, Value>, part: &str) -> Map<String, Value> {
    let (mut v2, mut values, mut metric) = (Map::new(), Map::new(), Map::new());
    if let Some(described) = v1.remove("target") {
        v2.insert("describedObject".into(), described);
    }
    for (old, new) in amounts(kind, part) {
        v1.remove(&old).and_then(|value| values.insert(new.to_owned(), value));
    }
    if part == "target" {
        let kind = match (values.contains_key("averageUtilization"), values.contains_key("averageValue")) {
            (true, _) => "Utilization",
            (false, true) => "AverageValue",
            (false, false) => "Value",
        };
        values.insert("type".into(), kind.into());
    }
    v2.insert(part.to_owned(), values.into());
    v1.remove("metricName").and_then(|name| metric.insert("name".into(), name));
    v1.remove(selector_name(kind)).and_then(|selector| metric.insert("selector".into(), selector));
    if !metric.is_empty() {
        v2.insert("metric".into(), metric.into());
    }
    v2.extend(v1);
    v2
}

fn to_v1_spec(kind: &str, source: Map<String, Value>) -> Map<String, Value> {
    to_v1(kind, source, "target")
}

fn to_v1_status(kind: &str, source: Map<String, Value>) -> Map<String, Value> {
    to_v1(kind, source, "current")
}

fn to_v2_spec(kind: &str, source: Map<String, Value>) -> Map<String, Value> {
    to_v2(kind, source, "target")
}

fn to_v2_status(kind: &str, source: Map<String, Value>) -> Map<String, Value> {
    to_v2(kind, source, "current")
}
