//! Labels of nodes that have newer names.

use super::super::names;
use super::super::node::Node;

const OLD: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Since when a label is old, and what to use instead.
pub(super) fn deprecated(label: &str) -> Option<&'static str> {
    OLD.iter().find(|(old, _)| *old == label).map(|(_, why)| *why)
}

/// Of a term that selects nodes; the values of terms that are only preferred are checked nowhere else.
pub(super) fn term(term: &Node, check_values: bool, out: &mut Vec<String>) {
    for expression in term.field("matchExpressions").items() {
        expression_key(&expression, out);
        if check_values {
            for value in expression.field("values").items() {
                for why in names::label_value(value.text()) {
                    out.push(format!("{}: {} is invalid, {why}", value.path, value.text()));
                }
            }
        }
    }
}

fn expression_key(expression: &Node, out: &mut Vec<String>) {
    let key = expression.field("key");
    if let Some(why) = deprecated(key.text()) {
        out.push(format!("{}: {} is {why}", key.path, key.text()));
    }
}

/// Of a selector of nodes by their labels.
pub(super) fn selector(selector: &Node, out: &mut Vec<String>) {
    selector.field("matchExpressions").items().for_each(|expression| expression_key(&expression, out));
    let labels = selector.field("matchLabels");
    for (label, _) in labels.entries() {
        if let Some(why) = deprecated(label) {
            out.push(format!("{}: {why}", labels.path.child(label)));
        }
    }
}
