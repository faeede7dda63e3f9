//! LimitRanges: bounds and defaults that must fit each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::FieldError;
use super::names;
use super::node::{Errors, Node};
use super::pod::resources;
use crate::quantity::Quantity;

const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub fn limit_range(range: &Value, errors: &mut Errors) {
    let root = Node::root(range);
    let spec = root.field("spec");
    let mut kinds = BTreeSet::new();
    for limit in spec.field("limits").items() {
        let kind = limit.field("type");
        kind.invalid_text(errors, names::qualified_name(kind.text()));
        if !kind.text().is_empty() && !kind.text().contains('/') && !known(kind.text()) {
            kind.invalid(errors, "must be a standard limit type or fully qualified");
        }
        if !kinds.insert(kind.text().to_owned()) {
            errors.push(FieldError::duplicate(&kind.path, kind.text()));
        }
        one(&limit, errors);
    }
}

fn known(kind: &str) -> bool {
    matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim")
}

fn one(limit: &Node, errors: &mut Errors) {
    let kind = limit.field("type").text();
    for bound in BOUNDS {
        let amounts = limit.field(bound);
        if kind == "Pod" && bound.starts_with("default") {
            if !amounts.is_empty() {
                amounts.forbidden(errors, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in amounts.entries() {
            resources::resource_name(name, &amount, errors);
        }
    }
    if kind == "PersistentVolumeClaim"
        && ["min", "max"].iter().all(|bound| limit.field(bound).value.get("storage").is_none())
    {
        limit
            .field("limits")
            .required(errors, "either minimum or maximum storage value is required, but neither was provided");
    }
    let names: BTreeSet<&str> = BOUNDS
        .iter()
        .filter_map(|bound| limit.value.get(bound)?.as_object())
        .flat_map(|map| map.keys().map(String::as_str))
        .collect();
    names.into_iter().for_each(|name| fits(limit, name, errors));
}

/// Pairs of bounds of which the first must not be above the second; where that is told, and as what.
const ORDER: [([&str; 2], &str, [&str; 2]); 6] = [
    (["min", "max"], "min", ["min", "max"]),
    (["min", "defaultRequest"], "defaultRequest", ["min", "default request"]),
    (["defaultRequest", "max"], "defaultRequest", ["default request", "max"]),
    (["defaultRequest", "default"], "defaultRequest", ["default request", "default limit"]),
    (["min", "default"], "default", ["min", "default"]),
    (["default", "max"], "default", ["default", "max"]),
];

fn fits(limit: &Node, name: &str, errors: &mut Errors) {
    let amount = |bound: &str| limit.value.get(bound)?.get(name)?.as_str()?.parse::<Quantity>().ok();
    for ([low, high], told_at, [low_name, high_name]) in ORDER {
        if let (Some(least), Some(most)) = (amount(low), amount(high))
            && least > most
        {
            let why = format!("{low_name} value {least} is greater than {high_name} value {most}");
            let at = limit.field(told_at);
            let shown = amount(told_at).map(|amount| amount.to_string()).unwrap_or_default();
            errors.push(FieldError::invalid(&at.path.key(name), &shown, why));
        }
    }
    let Some(ratio) = amount("maxLimitRequestRatio") else { return };
    let bound = limit.field("maxLimitRequestRatio");
    let at = bound.path.key(name);
    let shown = ratio.to_string();
    if ratio.milli_value() < 1000 {
        errors.push(FieldError::invalid(&at, &shown, format!("ratio {ratio} is less than 1")));
    }
    if let (Some(least), Some(most)) = (amount("min"), amount("max"))
        && least.milli_value() > 0
    {
        #[expect(clippy::cast_precision_loss, reason = "told to six places")]
        let reached = most.milli_value() as f64 / least.milli_value() as f64;
        #[expect(clippy::cast_precision_loss, reason = "told to six places")]
        let asked = ratio.milli_value() as f64 / 1000.0;
        if asked > reached {
            errors.push(FieldError::invalid(
                &at,
                &shown,
                format!("ratio {ratio} is greater than max/min = {reached:.6}"),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(limits: Value) -> Vec<String> {
        crate::validation::wrong(limit_range, json!({"spec": {"limits": limits}}))
    }

    #[test]
    fn bounds_and_defaults_fit_each_other() {
        assert_eq!(
            wrong(json!([{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}])),
            [r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#]
        );
        assert_eq!(
            wrong(json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}])),
            [
                r#"spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1"#
            ]
        );
        assert_eq!(
            wrong(json!([{"type": "Pod", "default": {"cpu": "1"}}])),
            ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]
        );
        assert_eq!(
            wrong(
                json!([{"type": "PersistentVolumeClaim"}, {"type": "PersistentVolumeClaim", "min": {"storage": "1"}}])
            ),
            [
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
                r#"spec.limits[1].type: Duplicate value: "PersistentVolumeClaim""#
            ]
        );
    }
}
