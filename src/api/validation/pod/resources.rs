//! What containers ask for and may use.

use crate::quantity::Quantity;
use crate::validation::names;
use crate::validation::node::{Errors, Node};
use crate::validation::number;

/// `requests` and `limits` of a container.
pub fn requirements(resources: &Node, errors: &mut Errors) {
    let (limits, requests) = (resources.field("limits"), resources.field("requests"));
    let (mut huge_pages, mut cpu_or_memory) = (false, false);
    for (name, amount) in limits.entries() {
        container_resource_name(name, &amount, errors);
        quantity_value(name, &amount, errors);
        huge_pages |= is_huge_page(name);
        cpu_or_memory |= matches!(name, "cpu" | "memory");
    }
    for (name, amount) in requests.entries() {
        container_resource_name(name, &amount, errors);
        quantity_value(name, &amount, errors);
        huge_pages |= is_huge_page(name);
        cpu_or_memory |= matches!(name, "cpu" | "memory");
        let request = number::quantity(&amount);
        let limit = limits.map().and_then(|limits| limits.get(name)).and_then(|limit| limit.as_str());
        match limit.map(|text| (text, text.parse::<Quantity>().unwrap_or_default())) {
            Some((text, limit)) if request != limit && !is_overcommit_allowed(name) => {
                requests.invalid_as(amount.text(), errors, format!("must be equal to {name} limit of {text}"));
            }
            Some((text, limit)) if request > limit => {
                let message = format!("must be less than or equal to {name} limit of {text}");
                requests.invalid_as(amount.text(), errors, message);
            }
            Some(_) => {}
            None if !is_overcommit_allowed(name) => {
                limits.required(errors, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
    if huge_pages && !cpu_or_memory {
        resources.forbidden(errors, "HugePages require cpu or memory");
    }
}

/// What a runtime class adds to a pod.
pub fn overhead(overhead: &Node, errors: &mut Errors) {
    for (name, amount) in overhead.entries() {
        container_resource_name(name, &amount, errors);
        quantity_value(name, &amount, errors);
    }
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Names that mean something somewhere: to containers, to nodes or in a quota.
fn is_standard(name: &str) -> bool {
    let counted = [
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
        "storage",
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    ];
    is_standard_container(name) || counted.contains(&name) || name.starts_with("requests.hugepages-")
}

fn is_standard_container(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

fn container_resource_name(name: &str, at: &Node, errors: &mut Errors) {
    resource_name(name, at, errors);
    match name.contains('/') {
        false if !is_standard_container(name) => {
            at.invalid_as(name, errors, "must be a standard resource for containers");
        }
        true if !is_native(name) && !is_extended(name) => {
            at.invalid_as(name, errors, "doesn't follow extended resource name standard");
        }
        _ => {}
    }
}

/// The name of a resource: a standard one or one with a domain.
pub fn resource_name(name: &str, at: &Node, errors: &mut Errors) {
    for message in names::qualified_name(name) {
        at.invalid_as(name, errors, message);
    }
    if !name.contains('/') && !is_standard(name) {
        at.invalid_as(name, errors, "must be a standard resource type or fully qualified");
    }
}

/// An amount of a resource; things that are counted come whole.
pub fn quantity_value(name: &str, amount: &Node, errors: &mut Errors) {
    number::non_negative_quantity(amount, errors);
    let counted = is_extended(name)
        || matches!(
            name,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        );
    if counted && number::quantity(amount).milli_value() % 1000 != 0 {
        amount.invalid(errors, "must be an integer");
    }
}
