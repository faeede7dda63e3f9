//! The groups whose resources say what may happen: policy, rbac, scheduling, discovery, leases.

use serde_json::Value;

use super::node::{Errors, Node, go_struct};
use super::number::{not_more_than_100_percent, positive_int_or_percent};
use super::{FieldError, names, selector};

pub fn pod_disruption_budget(budget: &Value, errors: &mut Errors) {
    let root = Node::root(budget);
    let spec = root.field("spec");
    let (available, unavailable) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        let order = [
            ("MinAvailable", "minAvailable"),
            ("Selector", "selector"),
            ("MaxUnavailable", "maxUnavailable"),
            ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy"),
        ];
        spec.invalid_as(go_struct(spec.value, &order), errors, "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in [&available, &unavailable] {
        if bound.is_set() {
            positive_int_or_percent(bound, errors);
            not_more_than_100_percent(bound, errors);
        }
    }
    selector::label_selector(&spec.field("selector"), errors);
    let policy = spec.field("unhealthyPodEvictionPolicy");
    if policy.is_set() {
        policy.one_of(errors, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

/// The rules of a Role; those of a ClusterRole may name paths too.
fn rules(root: &Node, namespaced: bool, errors: &mut Errors) {
    for rule in root.field("rules").items() {
        let (verbs, urls) = (rule.field("verbs"), rule.field("nonResourceURLs"));
        let (groups, resources) = (rule.field("apiGroups"), rule.field("resources"));
        if verbs.is_empty() {
            verbs.required(errors, "verbs must contain at least one value");
        }
        if !urls.is_empty() {
            if namespaced {
                urls.invalid(errors, "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !rule.field("resourceNames").is_empty() {
                urls.invalid(errors, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            groups.required(errors, "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            resources.required(errors, "resource rules must supply at least one resource");
        }
    }
}

pub fn role(role: &Value, errors: &mut Errors) {
    rules(&Node::root(role), true, errors);
}

pub fn cluster_role(role: &Value, errors: &mut Errors) {
    let root = Node::root(role);
    rules(&root, false, errors);
    let aggregation = root.field("aggregationRule");
    if aggregation.is_set() {
        let selectors = aggregation.field("clusterRoleSelectors");
        if selectors.is_empty() {
            selectors.required(errors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        selectors.items().for_each(|one| selector::label_selector(&one, errors));
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn binding(binding: &Value, kinds: &[&str], namespaced: bool, errors: &mut Errors) {
    let root = Node::root(binding);
    let role = root.field("roleRef");
    role.field("apiGroup").one_of(errors, &[RBAC]);
    role.field("kind").one_of(errors, kinds);
    let name = role.field("name");
    match name.is_empty() {
        true => name.required(errors, ""),
        false => name.invalid_text(errors, names::path_segment(name.text())),
    }
    for subject in root.field("subjects").items() {
        let (kind, group, name) = (subject.field("kind"), subject.field("apiGroup"), subject.field("name"));
        if name.is_empty() {
            name.required(errors, "");
        }
        match kind.text() {
            "ServiceAccount" => {
                if !name.is_empty() {
                    name.invalid_text(errors, names::dns1123_subdomain(name.text()));
                }
                if !group.is_empty() {
                    group.not_supported(errors, &[""]);
                }
                if !namespaced && subject.field("namespace").is_empty() {
                    subject.field("namespace").required(errors, "");
                }
            }
            "User" | "Group" => group.one_of(errors, &[RBAC]),
            _ => kind.not_supported(errors, &["Group", "ServiceAccount", "User"]),
        }
    }
}

pub fn role_binding(value: &Value, errors: &mut Errors) {
    binding(value, &["ClusterRole", "Role"], true, errors);
}

pub fn cluster_role_binding(value: &Value, errors: &mut Errors) {
    binding(value, &["ClusterRole"], false, errors);
}

/// What a binding grants is what it was made for.
pub fn binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let role = new.field("roleRef");
    if role.value != old.field("roleRef").value {
        let shown = go_struct(role.value, &[("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")]);
        role.invalid_as(shown, errors, "cannot change roleRef");
    }
}

const USER_PRIORITY_LIMIT: i64 = 1_000_000_000;
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub fn priority_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    let metadata = root.field("metadata");
    let (name, value) = (metadata.field("name"), root.field("value"));
    if name.text().starts_with("system-") {
        let known = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name.text());
        let problem = match known {
            None => format!("{} is not a known system priority class", name.text()),
            Some((_, expected)) if value.int() != Some(*expected) => {
                format!("value of {} PriorityClass must be {expected}", name.text())
            }
            Some(_) if root.field("globalDefault").bool() => {
                format!("globalDefault of {} PriorityClass must be false", name.text())
            }
            Some(_) => return,
        };
        name.forbidden(
            errors,
            format!("priority class names with 'system-' prefix are reserved for system use only. error: {problem}"),
        );
    } else if value.int().is_some_and(|value| value > USER_PRIORITY_LIMIT) {
        value.forbidden(errors, format!("maximum allowed value of a user defined priority is {USER_PRIORITY_LIMIT}"));
    }
    let policy = root.field("preemptionPolicy");
    if policy.is_set() {
        policy.one_of(errors, &["Never", "PreemptLowerPriority"]);
    }
}

pub fn priority_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    if new.field("value").value != old.field("value").value {
        new.field("value").forbidden(errors, "may not be changed in an update.");
    }
    new.field("preemptionPolicy").immutable(&old.field("preemptionPolicy"), errors);
}

const PORTS_LIMIT: usize = 20_000;

pub fn endpoint_slice(slice: &Value, errors: &mut Errors) {
    let root = Node::root(slice);
    let kind = root.field("addressType");
    match kind.text() {
        "" => kind.required(errors, ""),
        _ => kind.one_of(errors, &["FQDN", "IPv4", "IPv6"]),
    }
    let endpoints = root.field("endpoints");
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many(&endpoints.path, endpoints.len(), 1000));
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.field("addresses");
        if addresses.is_empty() {
            addresses.required(errors, "must contain at least 1 address");
        }
        for address in addresses.items() {
            match kind.text() {
                "IPv4" | "IPv6" => address.invalid_text(errors, names::ip_address(address.text())),
                _ => address.invalid_text(errors, names::dns1123_subdomain(address.text())),
            }
        }
        let hostname = endpoint.field("hostname");
        if hostname.is_set() {
            hostname.invalid_text(errors, names::dns1123_label(hostname.text()));
        }
    }
    let ports = root.field("ports");
    if ports.len() > PORTS_LIMIT {
        return errors.push(FieldError::too_many(&ports.path, ports.len(), PORTS_LIMIT));
    }
    for (index, port) in ports.items().enumerate() {
        let name = port.field("name");
        if !name.is_empty() {
            name.invalid_text(errors, names::dns1123_label(name.text()));
        }
        if ports.items().take(index).any(|other| other.field("name").text() == name.text()) {
            errors.push(FieldError::duplicate(&name.path, name.text()));
        }
        super::pod::container::protocol(&port.field("protocol"), errors);
    }
}

pub fn endpoint_slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    new.field("addressType").immutable(&old.field("addressType"), errors);
}

pub fn lease(lease: &Value, errors: &mut Errors) {
    let root = Node::root(lease);
    let spec = root.field("spec");
    let duration = spec.field("leaseDurationSeconds");
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        duration.invalid(errors, "must be greater than 0");
    }
    spec.field("leaseTransitions").non_negative(errors);
    let holder = spec.field("holderIdentity");
    if holder.is_set() && holder.is_empty() {
        holder.invalid(errors, "must not be empty");
    }
}

pub fn runtime_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    let handler = root.field("handler");
    handler.invalid_text(errors, names::dns1123_label(handler.text()));
}

pub fn runtime_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    new.field("handler").immutable(&old.field("handler"), errors);
}
