//! Services, endpoints, ingresses, network policies and addresses.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::{Fields, or_none, some_of};
use super::{Cells, Printer, columns, object_age};

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("", "services") => (columns::SERVICES, service),
        ("", "endpoints") => (columns::ENDPOINTS, endpoints),
        ("discovery.k8s.io", "endpointslices") => (columns::ENDPOINTSLICES, endpoint_slice),
        ("networking.k8s.io", "ingresses") => (columns::INGRESSES, ingress),
        ("networking.k8s.io", "ingressclasses") => (columns::INGRESSCLASSES, ingress_class),
        ("networking.k8s.io", "networkpolicies") => (columns::NETWORKPOLICIES, |object, now| {
            vec![object.name(), object.label_selector("spec.podSelector").into(), object_age(object, now)]
        }),
        ("networking.k8s.io", "servicecidrs") => (columns::SERVICECIDRS, |object, now| {
            vec![object.name(), object.texts("spec.cidrs").join(",").into(), object_age(object, now)]
        }),
        ("networking.k8s.io", "ipaddresses") => (columns::IPADDRESSES, ip_address),
        _ => return None,
    })
}

fn service(object: Fields<'_>, now: Timestamp) -> Cells {
    let cluster_ip = match object.texts("spec.clusterIPs").first() {
        Some(first) => (*first).to_owned(),
        None => or_none(object.text("spec.clusterIP").to_owned()),
    };
    let ports: Vec<_> = object
        .list("spec.ports")
        .map(|port| match port.int("nodePort") {
            0 => format!("{}/{}", port.int("port"), port.text("protocol")),
            node_port => format!("{}:{node_port}/{}", port.int("port"), port.text("protocol")),
        })
        .collect();
    vec![
        object.name(),
        object.text("spec.type").into(),
        cluster_ip.into(),
        external_addresses(object).into(),
        or_none(ports.join(",")).into(),
        object_age(object, now),
        object.labels("spec.selector").into(),
    ]
}

fn external_addresses(object: Fields<'_>) -> String {
    let external = object.texts("spec.externalIPs").join(",");
    match object.text("spec.type") {
        "ClusterIP" | "NodePort" => or_none(external),
        "LoadBalancer" => match (load_balancer(object), external.as_str()) {
            (balancer, "") if balancer.is_empty() => "<pending>".to_owned(),
            (balancer, "") => balancer,
            (balancer, external) if balancer.is_empty() => external.to_owned(),
            (balancer, external) => format!("{balancer},{external}"),
        },
        "ExternalName" => object.text("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses or names of a load balancer, each once.
fn load_balancer(object: Fields<'_>) -> String {
    let mut found: Vec<&str> = object
        .list("status.loadBalancer.ingress")
        .map(|ingress| ingress.text_or("ip", ingress.text("hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.join(",")
}

fn endpoints(object: Fields<'_>, now: Timestamp) -> Cells {
    if object.count("subsets") == 0 {
        return vec![object.name(), "<none>".into(), object_age(object, now)];
    }
    let mut found = Vec::new();
    for subset in object.list("subsets") {
        let addresses = || subset.list("addresses").map(|address| address.text("ip"));
        if subset.count("ports") == 0 {
            found.extend(addresses().map(str::to_owned));
        }
        for port in subset.list("ports") {
            found.extend(addresses().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{}", port.int("port")),
                false => format!("{ip}:{}", port.int("port")),
            }));
        }
    }
    vec![object.name(), some_of(&found, 3).into(), object_age(object, now)]
}

fn endpoint_slice(object: Fields<'_>, now: Timestamp) -> Cells {
    let or_unset = |text: String| if text.is_empty() { "<unset>".to_owned() } else { text };
    let ports = object.list("ports").map(|port| match (port.get("port"), port.get("name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(_)) => port.text("name").to_owned(),
        (None, None) => "*".to_owned(),
    });
    let ports: Vec<String> = ports.collect();
    let addresses: Vec<String> =
        object.list("endpoints").flat_map(|endpoint| endpoint.texts("addresses")).map(str::to_owned).collect();
    vec![
        object.name(),
        object.text("addressType").into(),
        or_unset(some_of(&ports, 3)).into(),
        or_unset(some_of(&addresses, 3)).into(),
        object_age(object, now),
    ]
}

/// How many hosts of an ingress have room.
const HOSTS_SHOWN: usize = 3;

fn ingress(object: Fields<'_>, now: Timestamp) -> Cells {
    // Those that are not shown are counted by rules, whether they name a host or not.
    let rules = object.count("spec.rules");
    let hosts: Vec<String> = object.list("spec.rules").map(|rule| rule.text("host").to_owned()).collect();
    let mut shown = Vec::new();
    let mut more = false;
    for host in hosts {
        more |= shown.len() == HOSTS_SHOWN;
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    let hosts = match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => shown.join(","),
        (false, true) => format!("{} + {} more...", shown.join(","), rules - HOSTS_SHOWN),
    };
    vec![
        object.name(),
        object.text_or("spec.ingressClassName", "<none>").into(),
        hosts.into(),
        load_balancer(object).into(),
        if object.count("spec.tls") > 0 { "80, 443" } else { "80" }.into(),
        object_age(object, now),
    ]
}

fn ingress_class(object: Fields<'_>, now: Timestamp) -> Cells {
    let parameters = object.at("spec.parameters").map(|parameters| {
        let (kind, group, name) = (parameters.text("kind"), parameters.text("apiGroup"), parameters.text("name"));
        if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
    });
    vec![
        object.name(),
        object.text("spec.controller").into(),
        parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
        object_age(object, now),
    ]
}

fn ip_address(object: Fields<'_>, now: Timestamp) -> Cells {
    let parent = object.at("spec.parentRef").map(|parent| {
        let (resource, group) = (parent.text("resource"), parent.text("group"));
        let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        match parent.text("namespace") {
            "" => format!("{resource}/{}", parent.text("name")),
            namespace => format!("{resource}/{namespace}/{}", parent.text("name")),
        }
    });
    vec![object.name(), parent.map_or(Value::from("<none>"), Value::from), object_age(object, now)]
}
