//! Services. Whether an address or node port can be had is for the allocator to say.

use std::net::IpAddr;

use serde_json::Value;

use super::FieldError;
use super::metadata;
use super::names;
use super::node::{Errors, Node};
use super::pod::container::protocol;
use super::pod::probe;

pub fn service(service: &Value, errors: &mut Errors) {
    let root = Node::root(service);
    let spec = root.field("spec");
    let (kind, ports) = (spec.field("type"), spec.field("ports"));
    let cluster_ip = spec.field("clusterIP");
    let headless = cluster_ip.text() == "None";
    if ports.is_empty() && !headless && kind.text() != "ExternalName" {
        ports.required(errors, "");
    }
    match kind.text() {
        "LoadBalancer" if headless => {
            cluster_ip.invalid(errors, "may not be set to 'None' for LoadBalancer services");
        }
        "NodePort" if headless => cluster_ip.invalid(errors, "may not be set to 'None' for NodePort services"),
        "ExternalName" => external_name(&spec, errors),
        _ => {}
    }
    for (index, port) in ports.items().enumerate() {
        service_port(&port, &ports, index, errors);
    }
    metadata::labels(&spec.field("selector").path, Some(spec.field("selector").value), errors);
    session_affinity(&spec, errors);
    cluster_ips(&spec, errors);
    for address in spec.field("externalIPs").items() {
        match names::ip_address(address.text()) {
            Some(message) => address.invalid(errors, message),
            None => not_special(&address, errors),
        }
    }
    match kind.text() {
        "" => kind.required(errors, ""),
        _ => kind.one_of(errors, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]),
    }
    ports_differ(&ports, kind.text(), errors);
    load_balancer(&spec, errors);
    traffic_policies(&spec, errors);
}

fn external_name(spec: &Node, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let node = spec.field(field);
        if !node.is_empty() {
            node.forbidden(errors, "may not be set for ExternalName services");
        }
    }
    let name = spec.field("externalName");
    match name.text().trim_end_matches('.') {
        "" => name.required(errors, ""),
        text => name.invalid_text(errors, names::dns1123_subdomain(text)),
    }
}

fn service_port(port: &Node, ports: &Node, index: usize, errors: &mut Errors) {
    let (name, number) = (port.field("name"), port.field("port"));
    if ports.len() > 1 && name.is_empty() {
        name.required(errors, "");
    } else if !name.is_empty() {
        name.invalid_text(errors, names::dns1123_label(name.text()));
        if ports.items().take(index).any(|other| other.field("name").text() == name.text()) {
            name.duplicate(errors);
        }
    }
    if let Some(message) = names::port_number(number.int().unwrap_or(0)) {
        number.invalid(errors, message);
    }
    protocol(&port.field("protocol"), errors);
    probe::port(&port.field("targetPort"), errors);
    let application = port.field("appProtocol");
    if application.is_set() {
        application.invalid_text(errors, names::qualified_name(application.text()));
    }
}

/// Two ports that differ in nothing but their names would not know whose a packet is.
fn ports_differ(ports: &Node, kind: &str, errors: &mut Errors) {
    for (index, port) in ports.items().enumerate() {
        let node_port = port.field("nodePort");
        if kind == "ClusterIP" && node_port.int().is_some_and(|number| number != 0) {
            node_port.forbidden(errors, "may not be used when `type` is 'ClusterIP'");
        }
        let same = |other: &Node, field: &str| {
            other.field("protocol").value == port.field("protocol").value
                && other.field(field).value == port.field(field).value
        };
        if node_port.int().is_some_and(|number| number != 0)
            && ports.items().take(index).any(|other| same(&other, "nodePort"))
        {
            node_port.duplicate(errors);
        }
    }
    for (index, port) in ports.items().enumerate() {
        let same =
            |other: &Node| ["protocol", "port"].iter().all(|field| other.field(field).value == port.field(field).value);
        if ports.items().take(index).any(|other| same(&other)) {
            // Nothing but these two is the same.
            let shown = format!(
                r#"{{"Name":"","Protocol":{},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                port.field("protocol").value,
                port.field("port").value
            );
            errors.push(FieldError::duplicate(&port.path, super::Verbatim(shown)));
        }
    }
}

fn session_affinity(spec: &Node, errors: &mut Errors) {
    let (affinity, config) = (spec.field("sessionAffinity"), spec.field("sessionAffinityConfig"));
    match affinity.text() {
        "" => affinity.required(errors, ""),
        _ => affinity.one_of(errors, &["ClientIP", "None"]),
    }
    if affinity.text() == "ClientIP" {
        let seconds = config.field("clientIP");
        let seconds = seconds.field("timeoutSeconds");
        if seconds.int().is_none_or(|seconds| !(1..=86_400).contains(&seconds)) {
            seconds.invalid(errors, "must be greater than 0 and less than 86400");
        }
    } else if affinity.text() == "None" && config.is_set() {
        config.forbidden(errors, "must not be set when session affinity is None");
    }
}

fn cluster_ips(spec: &Node, errors: &mut Errors) {
    if spec.field("type").text() == "ExternalName" {
        return;
    }
    let (one, all) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    if all.len() > 2 {
        all.invalid(errors, "may only hold up to 2 values");
    }
    if let Some(first) = all.items().next()
        && !one.is_empty()
        && first.text() != one.text()
    {
        all.invalid(errors, "first value must match `clusterIP`");
    }
    for address in all.items() {
        if address.text() == "None" {
            if all.len() > 1 {
                address.invalid(errors, "'None' must be the first and only value");
            }
            continue;
        }
        address.invalid_text(errors, names::ip_address(address.text()));
    }
    if all.is_empty() && !one.is_empty() && one.text() != "None" {
        let shown = format!("{}", serde_json::json!([one.text()]));
        if let Some(message) = names::ip_address(one.text()) {
            all.invalid_as(super::Verbatim(shown), errors, message);
        }
    }
    let families = spec.field("ipFamilies");
    for family in families.items() {
        family.one_of(errors, &["IPv4", "IPv6"]);
    }
    let policy = spec.field("ipFamilyPolicy");
    if policy.is_set() {
        policy.one_of(errors, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
}

/// An address that can belong to somebody.
fn not_special(address: &Node, errors: &mut Errors) {
    let Ok(ip) = address.text().parse::<IpAddr>() else { return };
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.is_multicast() && ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        address.invalid(errors, format!("may not be unspecified ({})", address.text()));
    }
    if ip.is_loopback() {
        address.invalid(errors, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        address.invalid(errors, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        address.invalid(errors, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn load_balancer(spec: &Node, errors: &mut Errors) {
    let (kind, ranges) = (spec.field("type"), spec.field("loadBalancerSourceRanges"));
    if !ranges.is_empty() {
        // The path is misspelt, and clients have come to know it so.
        let told_at = spec.field("LoadBalancerSourceRanges");
        if kind.text() != "LoadBalancer" {
            told_at.forbidden(errors, "may only be used when `type` is 'LoadBalancer'");
        }
        for (index, range) in ranges.items().enumerate() {
            if let Some(message) = names::cidr(range.text().trim()) {
                errors.push(FieldError::invalid(&told_at.path.index(index), range.text(), message));
            }
        }
    }
    let allocate = spec.field("allocateLoadBalancerNodePorts");
    if allocate.is_set() && kind.text() != "LoadBalancer" {
        allocate.forbidden(errors, "may only be used when `type` is 'LoadBalancer'");
    }
    let class = spec.field("loadBalancerClass");
    if class.is_set() {
        if kind.text() != "LoadBalancer" {
            class.forbidden(errors, "may only be used when `type` is 'LoadBalancer'");
        } else {
            class.invalid_text(errors, names::qualified_name(class.text()));
        }
    }
}

fn traffic_policies(spec: &Node, errors: &mut Errors) {
    let (kind, external, internal) =
        (spec.field("type"), spec.field("externalTrafficPolicy"), spec.field("internalTrafficPolicy"));
    let outside = matches!(kind.text(), "LoadBalancer" | "NodePort")
        || kind.text() == "ClusterIP" && !spec.field("externalIPs").is_empty();
    match (outside, external.text()) {
        (false, "") => {}
        (false, _) => external.invalid(errors, "may only be set for externally-accessible services"),
        (true, "") if kind.text() == "ClusterIP" => {}
        (true, "") => external.required(errors, ""),
        (true, _) => external.one_of(errors, &["Cluster", "Local"]),
    }
    let check = spec.field("healthCheckNodePort");
    if check.int().is_some_and(|port| port != 0) && (kind.text() != "LoadBalancer" || external.text() != "Local") {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        check.invalid(errors, why);
    }
    if kind.text() != "ExternalName" {
        match internal.is_set() {
            true => internal.one_of(errors, &["Cluster", "Local"]),
            false => internal.required(errors, ""),
        }
    }
    let distribution = spec.field("trafficDistribution");
    if distribution.is_set() {
        distribution.one_of(errors, &["PreferClose", "PreferSameNode", "PreferSameZone"]);
    }
}

/// The addresses of a service stay.
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let external = |spec: &Node| spec.field("type").text() == "ExternalName";
    if external(&new_spec) || external(&old_spec) {
        return;
    }
    let (ips, was) = (new_spec.field("clusterIPs"), old_spec.field("clusterIPs"));
    let first = |node: &Node| node.value.get(0).and_then(Value::as_str).unwrap_or_default().to_owned();
    let primary = match ips.is_empty() {
        true => new_spec.field("clusterIP").text().to_owned(),
        false => first(&ips),
    };
    if !first(&was).is_empty() && primary != first(&was) {
        let shown = super::Verbatim(format!("{}", serde_json::json!([primary])));
        errors.push(FieldError::invalid(&ips.path.index(0), shown, "may not change once set"));
    }
    let class = new_spec.field("loadBalancerClass");
    if old_spec.field("type").text() == "LoadBalancer"
        && new_spec.field("type").text() == "LoadBalancer"
        && class.value != old_spec.field("loadBalancerClass").value
    {
        class.invalid(errors, "may not change once set");
    }
}

/// What the load balancer of a service has come to.
pub fn status(new: &Value, _old: &Value, errors: &mut Errors) {
    let root = Node::root(new);
    let status = root.field("status");
    let balancer = status.field("loadBalancer");
    for ingress in balancer.field("ingress").items() {
        let (ip, mode, hostname) = (ingress.field("ip"), ingress.field("ipMode"), ingress.field("hostname"));
        if !ip.is_empty() {
            ip.invalid_text(errors, names::ip_address(ip.text()));
        }
        if mode.is_set() && ip.is_empty() {
            mode.forbidden(errors, "may not be specified when `ip` is not set");
        }
        if !hostname.is_empty() {
            hostname.invalid_text(errors, names::dns1123_subdomain(hostname.text()));
        }
    }
}
