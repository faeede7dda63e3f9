//! Label selectors and node selectors.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metadata;
use super::names;
use super::node::{Errors, Node};
use super::{FieldError, Verbatim};
use crate::quote::quote;

const MUST_HAVE_VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const MUST_NOT_HAVE_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";

/// A key of labels.
pub fn label_name(node: &Node, errors: &mut Errors) {
    node.invalid_text(errors, names::qualified_name(node.text()));
}

/// A `metav1.LabelSelector`.
pub fn label_selector(selector: &Node, errors: &mut Errors) {
    metadata::labels(&selector.field("matchLabels").path, Some(selector.field("matchLabels").value), errors);
    for requirement in selector.field("matchExpressions").items() {
        let (operator, values) = (requirement.field("operator"), requirement.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => values.required(errors, MUST_HAVE_VALUES),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => values.forbidden(errors, MUST_NOT_HAVE_VALUES),
            "Exists" | "DoesNotExist" => {}
            _ => operator.invalid_text(errors, ["not a valid selector operator"]),
        }
        label_name(&requirement.field("key"), errors);
        for value in values.items() {
            value.invalid_text(errors, names::label_value(value.text()));
        }
    }
}

/// Whether a selector can be used at all: every operator has the values it needs.
pub fn is_usable(selector: &Node) -> bool {
    selector.field("matchExpressions").items().all(|requirement| {
        let values = requirement.field("values").len();
        match requirement.field("operator").text() {
            "In" | "NotIn" => values > 0,
            "Exists" | "DoesNotExist" => values == 0,
            _ => false,
        }
    })
}

/// Whether labels fit a selector. An absent selector fits nothing.
pub fn matches(selector: &Node, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    selector.is_set()
        && selector.field("matchLabels").entries().all(|(key, value)| label(key) == Some(value.text()))
        && selector.field("matchExpressions").items().all(|requirement| {
            let key = requirement.field("key");
            let value = label(key.text());
            let among = || requirement.field("values").items().any(|one| Some(one.text()) == value);
            match requirement.field("operator").text() {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// A selector as Go writes it: labels before expressions.
pub fn shown(selector: &Value) -> Verbatim {
    let mut fields = Vec::new();
    if let Some(labels) = selector.get("matchLabels") {
        fields.push(format!("\"matchLabels\":{labels}"));
    }
    if let Some(Value::Array(expressions)) = selector.get("matchExpressions") {
        let expressions: Vec<String> = expressions
            .iter()
            .map(|expression| {
                let fields: Vec<String> = ["key", "operator", "values"]
                    .iter()
                    .filter_map(|name| expression.get(name).map(|value| format!("{}:{value}", quote(name))))
                    .collect();
                format!("{{{}}}", fields.join(","))
            })
            .collect();
        fields.push(format!("\"matchExpressions\":[{}]", expressions.join(",")));
    }
    Verbatim(format!("{{{}}}", fields.join(",")))
}

/// The selector of a workload: there, not empty, and fitting the labels of its pod template.
pub fn of_workload(spec: &Node, kind: &str, errors: &mut Errors) {
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if !selector.is_set() {
        selector.required(errors, "");
    } else {
        label_selector(&selector, errors);
        if selector.field("matchLabels").is_empty() && selector.field("matchExpressions").is_empty() {
            selector.invalid(errors, format!("empty selector is invalid for {kind}"));
        }
    }
    if !is_usable(&selector) {
        selector.invalid_as(shown(selector.value), errors, "invalid label selector");
        return;
    }
    fits_template(&selector, &template, errors);
}

/// The labels of a pod template must be those that its workload selects.
pub fn fits_template(selector: &Node, template: &Node, errors: &mut Errors) {
    let metadata = template.field("metadata");
    let labels = metadata.field("labels");
    let empty =
        selector.is_set() && selector.field("matchLabels").is_empty() && selector.field("matchExpressions").is_empty();
    if !empty && !matches(selector, labels.value) {
        labels.invalid(errors, "`selector` does not match template `labels`");
    }
}

/// A `core.NodeSelectorTerm`.
pub fn node_selector_term(term: &Node, errors: &mut Errors) {
    for requirement in term.field("matchExpressions").items() {
        node_requirement(&requirement, errors);
        label_name(&requirement.field("key"), errors);
    }
    for requirement in term.field("matchFields").items() {
        let (key, operator, values) =
            (requirement.field("key"), requirement.field("operator"), requirement.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => values
                .required(errors, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"),
            "In" | "NotIn" => {}
            _ => operator.invalid_text(errors, ["not a valid selector operator"]),
        }
        if key.text() != "metadata.name" {
            key.invalid_text(errors, ["not a valid field selector key"]);
        }
    }
}

fn node_requirement(requirement: &Node, errors: &mut Errors) {
    let (operator, values) = (requirement.field("operator"), requirement.field("values"));
    match operator.text() {
        "In" | "NotIn" if values.is_empty() => values.required(errors, MUST_HAVE_VALUES),
        "Exists" | "DoesNotExist" if !values.is_empty() => values.forbidden(errors, MUST_NOT_HAVE_VALUES),
        "Gt" | "Lt" if values.len() != 1 => {
            values.required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => operator.invalid_text(errors, ["not a valid selector operator"]),
    }
}

/// A `core.NodeSelector`.
pub fn node_selector(selector: &Node, errors: &mut Errors) {
    let terms = selector.field("nodeSelectorTerms");
    if terms.is_empty() {
        terms.required(errors, "must have at least one node selector term");
    }
    terms.items().for_each(|term| node_selector_term(&term, errors));
}

/// Elements of a list that must differ in a key: each that comes again is a duplicate.
pub fn unique<'a>(nodes: impl Iterator<Item = Node<'a>>, errors: &mut Errors) {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    for node in nodes {
        if !node.is_empty() && seen.insert(node.text().to_owned(), ()).is_some() {
            errors.push(FieldError::duplicate(&node.path, node.text()));
        }
    }
}
