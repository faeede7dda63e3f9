//! A port of a Service with the endpoints its traffic goes to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use ipnet::Ipv4Net;
use k3s_cri::Protocol;
use k8s_openapi::api::core::v1::{self, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Services with this label are another proxy's.
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// One port of one Service, IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// `namespace/name/protocol/port name or number`: unique, and what a reader of the rules looks for.
    pub(crate) id: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) cluster_ip: Ipv4Addr,
    pub(crate) external_ips: BTreeSet<Ipv4Addr>,
    /// Addresses of the load balancer that the proxy stands in for.
    pub(crate) ingress_ips: BTreeSet<Ipv4Addr>,
    /// Who may come through the load balancer's addresses; empty means everybody.
    pub(crate) source_ranges: Vec<Ipv4Net>,
    pub(crate) node_port: Option<u16>,
    /// `internalTrafficPolicy: Local`
    pub(crate) internal_local: bool,
    /// `externalTrafficPolicy: Local`
    pub(crate) external_local: bool,
    /// `sessionAffinity: ClientIP`
    pub(crate) client_affinity: bool,
    pub(crate) endpoints: Endpoints,
}

/// The endpoints traffic goes to now: the ready ones, or where there is none those that terminate but still serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub(crate) cluster: BTreeSet<SocketAddrV4>,
    /// On this node.
    pub(crate) local: BTreeSet<SocketAddrV4>,
}

impl ServicePort {
    /// Where traffic to the cluster IP goes.
    pub(crate) fn internal(&self) -> &BTreeSet<SocketAddrV4> {
        if self.internal_local { &self.endpoints.local } else { &self.endpoints.cluster }
    }

    /// Where traffic from outside goes.
    pub(crate) fn external(&self) -> &BTreeSet<SocketAddrV4> {
        if self.external_local { &self.endpoints.local } else { &self.endpoints.cluster }
    }
}

/// Every port of every Service that this proxy serves, in the order of their ids.
pub(crate) fn service_ports(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Vec<ServicePort> {
    let mut of_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let (Some(namespace), Some(name), "IPv4") = (&slice.metadata.namespace, name, slice.address_type.as_str()) {
            of_service.entry((namespace, name)).or_default().push(slice);
        }
    }
    let mut ports: Vec<_> = services
        .iter()
        .flat_map(|service| {
            let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
            let name = service.metadata.name.as_deref().unwrap_or_default();
            let slices = of_service.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
            of(service, namespace, name, slices, node)
        })
        .collect();
    ports.sort_by(|one, other| one.id.cmp(&other.id));
    ports
}

fn of(service: &Service, namespace: &str, name: &str, slices: &[&EndpointSlice], node: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let others = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(SERVICE_PROXY_NAME));
    // Headless services ("None") and external names have nothing to rewrite.
    let cluster_ip = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).find_map(|ip| ip.parse().ok());
    let (Some(cluster_ip), false, false) = (cluster_ip, others, spec.type_.as_deref() == Some("ExternalName")) else {
        return Vec::new();
    };
    let ingress =
        service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|lb| lb.ingress.iter().flatten());
    let ingress_ips: BTreeSet<_> = ingress
        // "Proxy": the load balancer wants to see the traffic itself.
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect();
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = protocol(port.protocol.as_deref())?;
        let number = u16::try_from(port.port).ok()?;
        Some(ServicePort {
            id: id(namespace, name, protocol, port),
            protocol,
            port: number,
            cluster_ip,
            external_ips: spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect(),
            ingress_ips: ingress_ips.clone(),
            source_ranges: ranges(spec.load_balancer_source_ranges.as_deref().unwrap_or_default()),
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            client_affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
            endpoints: endpoints(slices, port, protocol, node),
        })
    });
    ports.collect()
}

fn id(namespace: &str, name: &str, protocol: Protocol, port: &v1::ServicePort) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    match port.name.as_deref().filter(|name| !name.is_empty()) {
        Some(port) => format!("{namespace}/{name}/{protocol}/{port}"),
        None => format!("{namespace}/{name}/{protocol}/{}", port.port),
    }
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

/// Ranges of another family let nobody of this one through: where there were ranges there must be one.
fn ranges(texts: &[String]) -> Vec<Ipv4Net> {
    let ranges: Vec<_> = texts.iter().filter_map(|text| text.trim().parse().ok()).collect();
    if ranges.is_empty() && !texts.is_empty() {
        return vec![Ipv4Net::from(Ipv4Addr::UNSPECIFIED)];
    }
    ranges
}

fn endpoints(slices: &[&EndpointSlice], of: &v1::ServicePort, protocol: Protocol, node: &str) -> Endpoints {
    let mut ready = Endpoints::default();
    let mut terminating = Endpoints::default();
    let name = of.name.as_deref().unwrap_or_default();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| {
            port.name.as_deref().unwrap_or_default() == name
                && self::protocol(port.protocol.as_deref()) == Some(protocol)
        });
        let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let to = match condition(endpoint) {
                Condition::Ready => &mut ready,
                Condition::ServingWhileTerminating => &mut terminating,
                Condition::Neither => continue,
            };
            // The other addresses of an endpoint have no meaning.
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else { continue };
            let address = SocketAddrV4::new(address, port);
            to.cluster.insert(address);
            if endpoint.node_name.as_deref() == Some(node) {
                to.local.insert(address);
            }
        }
    }
    let or = |one: BTreeSet<_>, other| if one.is_empty() { other } else { one };
    Endpoints { cluster: or(ready.cluster, terminating.cluster), local: or(ready.local, terminating.local) }
}

enum Condition {
    Ready,
    ServingWhileTerminating,
    Neither,
}

/// What is not said counts as ready, as serving if ready, and as not terminating.
fn condition(endpoint: &Endpoint) -> Condition {
    let said = endpoint.conditions.as_ref();
    let ready = said.and_then(|c| c.ready).unwrap_or(true);
    let serving = said.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = said.and_then(|c| c.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, _) => Condition::Ready,
        (false, true, true) => Condition::ServingWhileTerminating,
        (false, _, _) => Condition::Neither,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn service(spec: Value) -> Arc<Service> {
        let metadata = json!({"name": "web", "namespace": "default"});
        Arc::new(from_value(json!({"metadata": metadata, "spec": spec})).expect("a Service"))
    }

    /// Endpoints as (address, node, conditions).
    fn slice(endpoints: &[(&str, &str, Value)]) -> Arc<EndpointSlice> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, node, conditions)| json!({"addresses": [ip], "nodeName": node, "conditions": conditions}))
            .collect();
        let metadata = json!({"name": "web-x", "namespace": "default", "labels": {SERVICE_NAME: "web"}});
        let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        Arc::new(from_value(slice).expect("an EndpointSlice"))
    }

    fn cluster_ip() -> Value {
        json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ports": [{"name": "http", "port": 80}]})
    }

    fn chosen(endpoints: &[(&str, &str, Value)]) -> (Vec<String>, Vec<String>) {
        let ports = service_ports(&[service(cluster_ip())], &[slice(endpoints)], "here");
        assert_eq!(ports.len(), 1);
        let text = |set: &BTreeSet<SocketAddrV4>| set.iter().map(ToString::to_string).collect();
        (text(&ports[0].endpoints.cluster), text(&ports[0].endpoints.local))
    }

    #[test]
    fn ready_endpoints_are_chosen_and_told_by_node() {
        let (cluster, local) = chosen(&[
            ("10.42.0.2", "here", json!({"ready": true})),
            ("10.42.1.2", "there", json!({})),
            ("10.42.1.3", "there", json!({"ready": false})),
            ("10.42.0.4", "here", json!({"ready": false, "serving": true, "terminating": true})),
        ]);
        assert_eq!(cluster, ["10.42.0.2:8080", "10.42.1.2:8080"]);
        assert_eq!(local, ["10.42.0.2:8080"]);
    }

    #[test]
    fn without_a_ready_one_those_that_terminate_but_serve_are_chosen() {
        let serving = json!({"ready": false, "serving": true, "terminating": true});
        let gone = json!({"ready": false, "serving": false, "terminating": true});
        let (cluster, local) = chosen(&[("10.42.0.2", "here", serving), ("10.42.1.2", "there", gone)]);
        assert_eq!(cluster, ["10.42.0.2:8080"]);
        assert_eq!(local, ["10.42.0.2:8080"]);
    }

    #[test]
    fn a_slice_without_the_port_or_of_another_service_gives_none() {
        let mut other = (*slice(&[("10.42.0.2", "here", json!({}))])).clone();
        other.metadata.labels = None;
        let spec = json!({"clusterIP": "10.43.0.9", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]});
        let slices = [Arc::new(other), slice(&[("10.42.0.2", "here", json!({}))])];
        let ports = service_ports(&[service(spec)], &slices, "here");
        assert_eq!(ports[0].id, "default/web/udp/dns");
        assert_eq!(ports[0].endpoints, Endpoints::default());
    }

    #[test]
    fn headless_and_external_name_services_have_no_rules() {
        let port = json!([{"port": 80}]);
        let headless = service(json!({"clusterIP": "None", "ports": port}));
        let external = service(json!({"type": "ExternalName", "externalName": "example.org", "ports": port}));
        assert_eq!(service_ports(&[headless, external], &[], "here"), []);
    }

    #[test]
    fn source_ranges_of_another_family_let_nobody_through() {
        let ranges = ranges(&["2001:db8::/32".to_owned()]);
        assert_eq!(ranges, ["0.0.0.0/32".parse::<Ipv4Net>().expect("a range")]);
    }
}
