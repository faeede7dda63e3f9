//! Ingresses and their classes, network policies, addresses and ranges of services.

use std::net::IpAddr;

use serde_json::Value;

use super::node::{Errors, Node, go_struct};
use super::{FieldError, Verbatim, names, selector};

pub fn ingress(ingress: &Value, errors: &mut Errors) {
    let root = Node::root(ingress);
    let spec = root.field("spec");
    if spec.field("rules").is_empty() && !spec.field("defaultBackend").is_set() {
        spec.invalid_as(Verbatim("null".into()), errors, "either `defaultBackend` or `rules` must be specified");
    }
    if spec.field("defaultBackend").is_set() {
        ingress_backend(&spec.field("defaultBackend"), errors);
    }
    for rule in spec.field("rules").items() {
        let host = rule.field("host");
        if !host.is_empty() {
            if host.text().parse::<IpAddr>().is_ok() {
                host.invalid(errors, "must be a DNS name, not an IP address");
            }
            host_name(&host, errors);
        }
        let http = rule.field("http");
        if !http.is_set() {
            continue;
        }
        if http.field("paths").is_empty() {
            http.field("paths").required(errors, "");
        }
        http.field("paths").items().for_each(|path| ingress_path(&path, errors));
    }
    for tls in spec.field("tls").items() {
        tls.field("hosts").items().for_each(|host| host_name(&host, errors));
        let secret = tls.field("secretName");
        if !secret.is_empty() {
            secret.invalid_text(errors, names::dns1123_subdomain(secret.text()));
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        class.invalid_text(errors, names::dns1123_subdomain(class.text()));
    }
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The class was an annotation once; a new ingress may not say two things.
pub fn ingress_create(ingress: &Value, errors: &mut Errors) {
    let root = Node::root(ingress);
    let spec = root.field("spec");
    let class = spec.field("ingressClassName");
    let annotation = crate::object::annotation(ingress, CLASS_ANNOTATION);
    if let Some(annotation) = annotation.filter(|annotation| class.is_set() && *annotation != class.text()) {
        let annotations = root.field("annotations");
        let at = annotations.field(CLASS_ANNOTATION);
        at.invalid_as(annotation, errors, "must match `ingressClassName` when both are specified");
    }
}

fn host_name(host: &Node, errors: &mut Errors) {
    let rule = if host.text().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    host.invalid_text(errors, rule(host.text()));
}

fn ingress_path(path: &Node, errors: &mut Errors) {
    let (kind, text) = (path.field("pathType"), path.field("path"));
    if !kind.is_set() {
        return kind.required(errors, "pathType must be specified");
    }
    let absolute = text.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                text.invalid_text(errors, ["must be an absolute path"]);
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| text.text().contains(**part)) {
                text.invalid(errors, format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].iter().filter(|end| text.text().ends_with(**end)) {
                text.invalid(errors, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" if !text.is_empty() && !absolute => text.invalid(errors, "must be an absolute path"),
        "ImplementationSpecific" => {}
        _ => kind.not_supported(errors, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    ingress_backend(&path.field("backend"), errors);
}

fn ingress_backend(backend: &Node, errors: &mut Errors) {
    let (service, resource) = (backend.field("service"), backend.field("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => backend.invalid_as("", errors, "cannot set both resource and service backends"),
        (false, true) => typed_reference(&resource, errors),
        (false, false) => backend.invalid_as("", errors, "resource or service backend is required"),
        (true, false) => {
            let (name, port) = (service.field("name"), service.field("port"));
            if name.require(errors) {
                name.invalid_text(errors, names::dns1123_label(name.text()));
            }
            let (port_name, number) = (port.field("name"), port.field("number"));
            match (port_name.is_empty(), number.int().unwrap_or(0)) {
                (false, 0) => port_name.invalid_text(errors, names::port_name(port_name.text())),
                (false, _) => backend.invalid_as("", errors, "cannot set both port name & port number"),
                (true, 0) => backend.required(errors, "port name or number is required"),
                (true, value) => {
                    names::port_number(value).into_iter().for_each(|message| number.invalid(errors, message))
                }
            }
        }
    }
}

/// A reference by group, kind and name.
fn typed_reference(reference: &Node, errors: &mut Errors) {
    let group = reference.field("apiGroup");
    if group.is_set() {
        group.invalid_text(errors, names::dns1123_subdomain(group.text()));
    }
    for field in ["kind", "name"] {
        let part = reference.field(field);
        if part.require(errors) {
            part.invalid_text(errors, names::path_segment(part.text()));
        }
    }
}

const CONTROLLER_LIMIT: usize = 250;

pub fn ingress_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    let spec = root.field("spec");
    let controller = spec.field("controller");
    if controller.require(errors) {
        if controller.text().len() > CONTROLLER_LIMIT {
            errors.push(FieldError::too_long(&controller.path, CONTROLLER_LIMIT));
        }
        domain_prefixed_path(&controller, errors);
    }
    let parameters = spec.field("parameters");
    if !parameters.is_set() {
        return;
    }
    typed_reference(&parameters, errors);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    match scope.text() {
        "" if !scope.is_set() => scope.required(errors, ""),
        "Namespace" if !namespace.is_set() => {
            namespace.required(errors, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => namespace.invalid_text(errors, names::dns1123_label(namespace.text())),
        "Cluster" if namespace.is_set() => {
            namespace.forbidden(errors, "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        _ => scope.not_supported(errors, &["Cluster", "Namespace"]),
    }
}

pub fn ingress_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    new_spec.field("controller").immutable(&old_spec.field("controller"), errors);
}

/// `example.com/name`: a domain, a slash and a path.
fn domain_prefixed_path(node: &Node, errors: &mut Errors) {
    let Some((domain, path)) =
        node.text().split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return node.invalid(errors, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    for message in names::dns1123_subdomain(domain) {
        node.invalid_as(domain, errors, message);
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !path.bytes().all(fits) {
        node.invalid_as(path, errors, r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')");
    }
}

pub fn network_policy(policy: &Value, errors: &mut Errors) {
    let root = Node::root(policy);
    let spec = root.field("spec");
    selector::label_selector(&spec.field("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            rule.field("ports").items().for_each(|port| policy_port(&port, errors));
            rule.field(peers).items().for_each(|peer| policy_peer(&peer, errors));
        }
    }
    let types = spec.field("policyTypes");
    if types.len() > 2 {
        return types.invalid(errors, "may not specify more than two policyTypes");
    }
    types.items().for_each(|kind| kind.one_of(errors, &["Ingress", "Egress"]));
}

fn policy_port(port: &Node, errors: &mut Errors) {
    if port.field("protocol").is_set() {
        port.field("protocol").one_of(errors, &["TCP", "UDP", "SCTP"]);
    }
    let (number, end) = (port.field("port"), port.field("endPort"));
    match (number.int(), number.is_set()) {
        (Some(first), _) => {
            names::port_number(first).into_iter().for_each(|message| number.invalid(errors, message));
            if end.int().is_some_and(|last| last < first) {
                end.invalid(errors, "must be greater than or equal to `port`");
            }
            let wrong = end.int().and_then(names::port_number);
            wrong.into_iter().for_each(|message| end.invalid(errors, message));
        }
        (None, true) => {
            if end.is_set() {
                end.invalid(errors, "may not be specified when `port` is non-numeric");
            }
            number.invalid_text(errors, names::port_name(number.text()));
        }
        (None, false) if end.is_set() => end.invalid(errors, "may not be specified when `port` is not specified"),
        (None, false) => {}
    }
}

fn policy_peer(peer: &Node, errors: &mut Errors) {
    let block = peer.field("ipBlock");
    let selectors = ["podSelector", "namespaceSelector"];
    selectors.iter().for_each(|field| selector::label_selector(&peer.field(field), errors));
    if block.is_set() {
        ip_block(&block, errors);
    }
    match (block.is_set(), selectors.iter().any(|field| peer.field(field).is_set())) {
        (true, true) => peer.forbidden(errors, "may not specify both ipBlock and another peer"),
        (false, false) => peer.required(errors, "must specify a peer"),
        _ => {}
    }
}

fn ip_block(block: &Node, errors: &mut Errors) {
    let cidr = block.field("cidr");
    if !cidr.require(errors) {
        return;
    }
    cidr.invalid_text(errors, names::cidr(cidr.text()));
    let Some((network, length)) = network(cidr.text()) else { return };
    for except in block.field("except").items() {
        except.invalid_text(errors, names::cidr(except.text()));
        if let Some((inner, inner_length)) = self::network(except.text())
            && (length >= inner_length || masked(inner, length) != Some(network))
        {
            except.invalid(errors, "must be a strict subset of `cidr`");
        }
    }
}

/// The first address of a range, and the length of its prefix.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (address.parse().ok()?, length.parse().ok()?);
    Some((masked(address, length)?, length))
}

/// An address without what comes after so many bits; none if it has fewer.
fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length.into())?).unwrap_or(0);
            Some(IpAddr::V4((u32::from(ip) & mask).into()))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length.into())?).unwrap_or(0);
            Some(IpAddr::V6((u128::from(ip) & mask).into()))
        }
    }
}

/// What an address is of; its name is the address.
pub fn ip_address(address: &Value, errors: &mut Errors) {
    let root = Node::root(address);
    let spec = root.field("spec");
    let parent = spec.field("parentRef");
    if !parent.is_set() {
        return parent.required(errors, "");
    }
    let group = parent.field("group");
    if !group.is_empty() {
        group.invalid_text(errors, names::dns1123_subdomain(group.text()));
    }
    for field in ["resource", "name"] {
        let part = parent.field(field);
        if part.require(errors) {
            part.invalid_text(errors, names::path_segment(part.text()));
        }
    }
    let namespace = parent.field("namespace");
    namespace.invalid_text(errors, names::path_segment(namespace.text()));
}

pub fn ip_address_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (parent, was) = (new_spec.field("parentRef"), old_spec.field("parentRef"));
    if parent.value != was.value {
        let order = [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")];
        parent.invalid_as(go_struct(parent.value, &order), errors, "field is immutable");
    }
}

pub fn service_cidr(ranges: &Value, errors: &mut Errors) {
    let root = Node::root(ranges);
    let spec = root.field("spec");
    cidrs(&spec, errors);
}

fn cidrs(spec: &Node, errors: &mut Errors) {
    let cidrs = spec.field("cidrs");
    match cidrs.len() {
        0 => return cidrs.required(errors, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = go_struct(spec.value, &[("CIDRs", "cidrs")]);
            return cidrs.invalid_as(shown, errors, "may only hold up to 2 values");
        }
    }
    cidrs.items().for_each(|range| range.invalid_text(errors, names::canonical_cidr(range.text())));
    let families: Vec<bool> = cidrs.items().filter_map(|range| network(range.text())).map(|n| n.0.is_ipv4()).collect();
    if let [first, second] = families[..]
        && first == second
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        cidrs.invalid(errors, why);
    }
}

/// A second range may be added, of the other family; nothing else changes.
pub fn service_cidr_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (ranges, were) = (new_spec.field("cidrs"), old_spec.field("cidrs"));
    let kept = match (were.len(), ranges.len()) {
        (before, now) if before == now => now,
        (1, 2) => 1,
        _ => return ranges.invalid(errors, "field is immutable"),
    };
    for (range, was) in ranges.items().zip(were.items()).take(kept) {
        range.immutable(&was, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::wrong;

    #[test]
    fn a_class_names_a_controller_by_domain() {
        let class = |controller: &str| json!({"spec": {"controller": controller}});
        assert!(wrong(ingress_class, class("example.com/ingress")).is_empty());
        assert_eq!(wrong(ingress_class, class("")), ["spec.controller: Required value"]);
        assert_eq!(
            wrong(ingress_class, class("plain")),
            [r#"spec.controller: Invalid value: "plain": must be a domain-prefixed path (such as "acme.io/foo")"#]
        );
    }

    #[test]
    fn a_backend_is_a_service_with_a_port() {
        let ingress_of = |backend: Value| json!({"spec": {"defaultBackend": backend}});
        let at = "spec.defaultBackend";
        for (backend, why) in [
            (json!({}), r#": Invalid value: "": resource or service backend is required"#),
            (json!({"service": {"name": "s"}}), ": Required value: port name or number is required"),
            (
                json!({"service": {"name": "s", "port": {"name": "a", "number": 1}}}),
                r#": Invalid value: "": cannot set both port name & port number"#,
            ),
            (json!({"resource": {"kind": "", "name": "n"}}), ".resource.kind: Required value"),
        ] {
            assert_eq!(wrong(ingress, ingress_of(backend)), [format!("{at}{why}")]);
        }
    }

    #[test]
    fn an_exception_lies_within_its_block() {
        let policy = |except: &str| {
            let peer = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}});
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [peer]}]}})
        };
        assert!(wrong(network_policy, policy("10.1.0.0/16")).is_empty());
        for except in ["11.0.0.0/16", "10.0.0.0/8", "fd00::/64"] {
            assert_eq!(
                wrong(network_policy, policy(except)),
                [format!(
                    "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"{except}\": must be a strict subset of `cidr`"
                )]
            );
        }
    }

    #[test]
    fn ranges_are_one_of_each_family() {
        let ranges = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
        assert!(wrong(service_cidr, ranges(json!(["10.0.0.0/16", "fd00::/112"]))).is_empty());
        assert_eq!(wrong(service_cidr, ranges(json!([]))), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert_eq!(wrong(service_cidr, ranges(json!(["10.0.0.0/16", "11.0.0.0/16"]))).len(), 1);
        let (one, two) = (ranges(json!(["10.0.0.0/16"])), ranges(json!(["10.0.0.0/16", "fd00::/112"])));
        let mut errors = Vec::new();
        service_cidr_update(&two, &one, &mut errors);
        assert!(errors.is_empty());
        service_cidr_update(&one, &two, &mut errors);
        assert_eq!(errors[0].to_string(), r#"spec.cidrs: Invalid value: ["10.0.0.0/16"]: field is immutable"#);
    }
}
