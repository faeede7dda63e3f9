//! Where a pod may and would rather run.

use crate::validation::FieldError;
use crate::validation::names;
use crate::validation::node::{Errors, Node};
use crate::validation::selector::{label_name, label_selector, node_selector, node_selector_term};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub fn affinity(affinity: &Node, errors: &mut Errors) {
    let node = affinity.field("nodeAffinity");
    if node.field(REQUIRED).is_set() {
        node_selector(&node.field(REQUIRED), errors);
    }
    for term in node.field(PREFERRED).items() {
        weight(&term, errors);
        node_selector_term(&term.field("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.field(kind);
        pods.field(REQUIRED).items().for_each(|term| pod_term(&term, errors));
        for term in pods.field(PREFERRED).items() {
            weight(&term, errors);
            pod_term(&term.field("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Node, errors: &mut Errors) {
    let weight = term.field("weight");
    if !(1..=100).contains(&weight.int().unwrap_or(0)) {
        weight.invalid(errors, "must be in the range 1-100");
    }
}

fn pod_term(term: &Node, errors: &mut Errors) {
    for selector in ["labelSelector", "namespaceSelector"] {
        label_selector(&term.field(selector), errors);
    }
    for namespace in term.field("namespaces").items() {
        let namespaces = term.field("namespaces");
        for message in names::dns1123_label(namespace.text()) {
            namespaces.invalid_as(namespace.text(), errors, message);
        }
    }
    let key = term.field("topologyKey");
    if key.is_empty() {
        key.required(errors, "can not be empty");
    }
    label_name(&key, errors);
}

pub fn topology_spread(constraints: &Node, errors: &mut Errors) {
    for (index, constraint) in constraints.items().enumerate() {
        let (skew, key, unsatisfiable) =
            (constraint.field("maxSkew"), constraint.field("topologyKey"), constraint.field("whenUnsatisfiable"));
        if skew.int().unwrap_or(0) <= 0 {
            skew.invalid(errors, "must be greater than zero");
        }
        if key.is_empty() {
            key.required(errors, "can not be empty");
        }
        unsatisfiable.one_of(errors, &["DoNotSchedule", "ScheduleAnyway"]);
        let same = |other: &Node| {
            other.field("topologyKey").value == key.value
                && other.field("whenUnsatisfiable").value == unsatisfiable.value
        };
        if constraints.items().take(index).any(|other| same(&other)) {
            let at = constraint.field("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&at.path, &format!("{{{}, {}}}", key.text(), unsatisfiable.text())));
        }
        let domains = constraint.field("minDomains");
        if domains.int().is_some_and(|count| count <= 0) {
            domains.invalid(errors, "must be greater than zero");
        }
        if domains.is_set() && unsatisfiable.text() != "DoNotSchedule" {
            let message =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", unsatisfiable.text());
            domains.invalid(errors, message);
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = constraint.field(policy);
            if policy.is_set() {
                policy.one_of(errors, &["Honor", "Ignore"]);
            }
        }
        label_selector(&constraint.field("labelSelector"), errors);
    }
}

pub fn tolerations(tolerations: &Node, errors: &mut Errors) {
    for toleration in tolerations.items() {
        let (key, operator, value) = (toleration.field("key"), toleration.field("operator"), toleration.field("value"));
        let effect = toleration.field("effect");
        if !key.is_empty() {
            label_name(&key, errors);
        }
        if key.is_empty() && operator.text() != "Exists" {
            let message = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.invalid_text(errors, [message]);
        }
        if toleration.field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            effect.invalid_text(errors, ["effect must be 'NoExecute' when `tolerationSeconds` is set"]);
        }
        match operator.text() {
            "" | "Equal" => {
                let found = names::label_value(value.text());
                if !found.is_empty() {
                    operator.invalid_as(value.text(), errors, found.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                operator.invalid_as(value.text(), errors, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => operator.not_supported(errors, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            effect.one_of(errors, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }
}
