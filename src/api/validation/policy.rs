//! The groups whose resources say what may happen: policy, rbac, networking, scheduling, storage.

use serde_json::Value;

use super::node::{Errors, Node, go_struct};
use super::number::{not_more_than_100_percent, positive_int_or_percent};
use super::{FieldError, names, selector};

pub fn pod_disruption_budget(budget: &Value, errors: &mut Errors) {
    let root = Node::root(budget);
    let spec = root.field("spec");
    let (available, unavailable) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        spec.invalid(errors, "minAvailable and maxUnavailable cannot be both set");
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

pub fn ingress(ingress: &Value, errors: &mut Errors) {
    let root = Node::root(ingress);
    let spec = root.field("spec");
    if spec.field("rules").is_empty() && !spec.field("defaultBackend").is_set() {
        spec.invalid_as(super::Verbatim("null".into()), errors, "either `defaultBackend` or `rules` must be specified");
    }
    if spec.field("defaultBackend").is_set() {
        ingress_backend(&spec.field("defaultBackend"), errors);
    }
    for rule in spec.field("rules").items() {
        let host = rule.field("host");
        if !host.is_empty() {
            if host.text().parse::<std::net::IpAddr>().is_ok() {
                host.invalid(errors, "must be a DNS name, not an IP address");
            }
            let rule =
                if host.text().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
            host.invalid_text(errors, rule(host.text()));
        }
        let http = rule.field("http");
        if !http.is_set() {
            continue;
        }
        if http.field("paths").is_empty() {
            http.field("paths").required(errors, "");
        }
        for path in http.field("paths").items() {
            let (kind, text) = (path.field("pathType"), path.field("path"));
            match kind.text() {
                "" => kind.required(errors, "pathType must be specified"),
                "Exact" | "Prefix" if !text.text().starts_with('/') => {
                    text.invalid_text(errors, ["must be an absolute path"])
                }
                "ImplementationSpecific" if !text.is_empty() && !text.text().starts_with('/') => {
                    text.invalid(errors, "must be an absolute path");
                }
                _ => kind.one_of(errors, &["Exact", "ImplementationSpecific", "Prefix"]),
            }
            ingress_backend(&path.field("backend"), errors);
        }
    }
    for tls in spec.field("tls").items() {
        for host in tls.field("hosts").items() {
            let rule =
                if host.text().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
            host.invalid_text(errors, rule(host.text()));
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        class.invalid_text(errors, names::dns1123_subdomain(class.text()));
    }
}

fn ingress_backend(backend: &Node, errors: &mut Errors) {
    let (service, resource) = (backend.field("service"), backend.field("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => backend.invalid_as("", errors, "cannot set both resource and service backends"),
        (false, true) => {}
        (false, false) => backend.required(errors, "resource or service backend is required"),
        (true, false) => {
            let (name, port) = (service.field("name"), service.field("port"));
            match name.is_empty() {
                true => name.required(errors, ""),
                false => name.invalid_text(errors, names::dns1035_label(name.text())),
            }
            let (port_name, number) = (port.field("name"), port.field("number"));
            match (port_name.is_empty(), number.int().unwrap_or(0)) {
                (false, 0) => port_name.invalid_text(errors, names::port_name(port_name.text())),
                (false, _) => port.invalid_as("", errors, "cannot set both port name & port number"),
                (true, 0) => port.required(errors, "port name or number is required"),
                (true, value) => {
                    names::port_number(value).into_iter().for_each(|message| number.invalid(errors, message))
                }
            }
        }
    }
}

pub fn network_policy(policy: &Value, errors: &mut Errors) {
    let root = Node::root(policy);
    let spec = root.field("spec");
    selector::label_selector(&spec.field("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            for port in rule.field("ports").items() {
                port.field("protocol").one_of(errors, &["SCTP", "TCP", "UDP"]);
                let number = port.field("port");
                if number.is_set() {
                    super::pod::probe::port(&number, errors);
                }
                let end = port.field("endPort");
                if end.is_set() && end.int() < number.int() {
                    end.invalid(errors, "must be greater than or equal to `port`");
                }
            }
            for peer in rule.field(peers).items() {
                let block = peer.field("ipBlock");
                let selectors = ["podSelector", "namespaceSelector"];
                selectors.iter().for_each(|field| selector::label_selector(&peer.field(field), errors));
                let any = selectors.iter().any(|field| peer.field(field).is_set());
                match (block.is_set(), any) {
                    (true, true) => peer.forbidden(errors, "may not specify both ipBlock and another peer"),
                    (false, false) => peer.required(errors, "must specify a peer"),
                    (true, false) => {
                        let cidr = block.field("cidr");
                        match cidr.is_empty() {
                            true => cidr.required(errors, ""),
                            false => cidr.invalid_text(errors, names::cidr(cidr.text())),
                        }
                    }
                    (false, true) => {}
                }
            }
        }
    }
    let types = spec.field("policyTypes");
    for kind in types.items() {
        kind.one_of(errors, &["Egress", "Ingress"]);
    }
}

pub fn storage_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    let provisioner = root.field("provisioner");
    match provisioner.is_empty() {
        true => provisioner.required(errors, ""),
        false => provisioner.invalid_text(errors, names::qualified_name(&provisioner.text().to_lowercase())),
    }
    let policy = root.field("reclaimPolicy");
    if policy.is_set() {
        policy.one_of(errors, &["Delete", "Retain"]);
    }
    let mode = root.field("volumeBindingMode");
    match mode.is_set() {
        true => mode.one_of(errors, &["Immediate", "WaitForFirstConsumer"]),
        false => mode.required(errors, ""),
    }
}

/// A class means to a volume what it meant when the volume was made.
pub fn storage_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    if new.field("parameters").value != old.field("parameters").value {
        new.field("parameters").forbidden(errors, "updates to parameters are forbidden.");
    }
    if new.field("provisioner").value != old.field("provisioner").value {
        new.field("provisioner").forbidden(errors, "updates to provisioner are forbidden.");
    }
    if new.field("reclaimPolicy").value != old.field("reclaimPolicy").value {
        new.field("reclaimPolicy").forbidden(errors, "updates to reclaimPolicy are forbidden.");
    }
    new.field("volumeBindingMode").immutable(&old.field("volumeBindingMode"), errors);
}

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
    for port in root.field("ports").items() {
        let name = port.field("name");
        if !name.is_empty() {
            name.invalid_text(errors, names::dns1123_label(name.text()));
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
