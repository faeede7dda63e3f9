//! Of services and what is behind and before them.

use serde_json::Value;

use super::super::node::Node;
use super::address;
use crate::object;

const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub fn service(service: &Value) -> Vec<String> {
    let root = Node::root(service);
    let spec = root.field("spec");
    let mut out = Vec::new();
    if object::annotation(service, TOPOLOGY_HINTS).is_some() {
        out.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let has_address = !["", "None"].contains(&spec.field("clusterIP").text());
    if has_address {
        spec.field("clusterIPs").items().for_each(|ip| address::ip(&ip, &mut out));
    }
    let is_external = spec.field("type").text() == "ExternalName";
    let is_headless = spec.field("type").text() == "ClusterIP" && spec.field("clusterIP").text() == "None";
    let external_ips = spec.field("externalIPs");
    if is_headless {
        if !spec.field("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external_ips.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.field("sessionAffinity").text() != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    external_ips.items().for_each(|ip| address::ip(&ip, &mut out));
    if !external_ips.is_empty() && !is_headless && !is_external {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    address::ip(&spec.field("loadBalancerIP"), &mut out);
    spec.field("loadBalancerSourceRanges").items().for_each(|range| address::cidr(&range, &mut out));
    if is_external && !external_ips.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !spec.field("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.field("trafficDistribution").text() == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    out
}

pub fn endpoints(endpoints: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for subset in Node::root(endpoints).field("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            subset.field(list).items().for_each(|one| address::ip(&one.field("ip"), &mut out));
        }
    }
    out
}

pub fn endpoint_slice(slice: &Value) -> Vec<String> {
    let root = Node::root(slice);
    let mut out = Vec::new();
    if root.field("addressType").text() == "FQDN" {
        out.push("addressType: FQDN endpoints are deprecated".to_owned());
        return out;
    }
    for endpoint in root.field("endpoints").items() {
        endpoint.field("addresses").items().for_each(|ip| address::ip(&ip, &mut out));
    }
    out
}

pub fn network_policy(policy: &Value) -> Vec<String> {
    let root = Node::root(policy);
    let spec = root.field("spec");
    let mut out = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            for peer in rule.field(peers).items() {
                let block = peer.field("ipBlock");
                address::cidr(&block.field("cidr"), &mut out);
                block.field("except").items().for_each(|range| address::cidr(&range, &mut out));
            }
        }
    }
    out
}

pub fn ingress(ingress: &Value) -> Vec<String> {
    let annotation = "kubernetes.io/ingress.class";
    match object::annotation(ingress, annotation) {
        Some(_) => {
            vec![format!("annotation \"{annotation}\" is deprecated, please use 'spec.ingressClassName' instead")]
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_headless_service_is_told_what_it_ignores() {
        let spec = json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP",
            "externalIPs": ["1.2.3.4"], "loadBalancerIP": "1.2.3.4", "externalName": "x"});
        assert_eq!(
            service(&json!({"spec": spec})),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
    }

    #[test]
    fn blocks_of_policies_have_no_bits_beyond_their_length() {
        let peer = json!({"ipBlock": {"cidr": "10.0.0.1/8", "except": ["10.1.0.0/16"]}});
        let policy = json!({"spec": {"egress": [{"to": [peer]}]}});
        let told = network_policy(&policy);
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("spec.egress[0].to[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous"));
    }
}
