//! Services, endpoints and ingresses.

use serde_json::Value;

use super::{Writer, items, joined, or, text};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::line;
use crate::selector;
use crate::target::CHUNK;

pub async fn service(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let spec = &object["spec"];
    writer.head(object);
    let selector = selector::of_labels(&spec["selector"]);
    line!(writer, 0, "Selector:\t{}", if selector.is_empty() { "<none>" } else { &selector });
    line!(writer, 0, "Type:\t{}", text(&spec["type"]));
    if !text(&spec["ipFamilyPolicy"]).is_empty() {
        line!(writer, 0, "IP Family Policy:\t{}", text(&spec["ipFamilyPolicy"]));
    }
    if items(&spec["ipFamilies"]).count() > 0 {
        line!(writer, 0, "IP Families:\t{}", joined(&spec["ipFamilies"], ","));
    }
    line!(writer, 0, "IP:\t{}", text(&spec["clusterIP"]));
    if items(&spec["clusterIPs"]).count() > 0 {
        line!(writer, 0, "IPs:\t{}", joined(&spec["clusterIPs"], ","));
    }
    if items(&spec["externalIPs"]).count() > 0 {
        line!(writer, 0, "External IPs:\t{}", joined(&spec["externalIPs"], ","));
    }
    for (title, field) in [("Desired LoadBalancer IP", "loadBalancerIP"), ("External Name", "externalName")] {
        if !text(&spec[field]).is_empty() {
            line!(writer, 0, "{title}:\t{}", text(&spec[field]));
        }
    }
    let ingress = items(&object["status"]["loadBalancer"]["ingress"]);
    let ingress: Vec<String> = ingress.map(|entry| or(&entry["ip"], &text(&entry["hostname"]))).collect();
    if !ingress.is_empty() {
        line!(writer, 0, "LoadBalancer Ingress:\t{}", ingress.join(", "));
    }
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", k3s_api::object::namespace(object));
    let query =
        Query::new().with("labelSelector", &format!("kubernetes.io/service-name={}", k3s_api::object::name(object)));
    let slices = cluster.list(&path, &query, CHUNK).await?;
    for port in items(&spec["ports"]) {
        let name = or(&port["name"], "<unset>");
        let protocol = text(&port["protocol"]);
        line!(writer, 0, "Port:\t{name}\t{}/{protocol}", text(&port["port"]));
        line!(writer, 0, "TargetPort:\t{}/{protocol}", text(&port["targetPort"]));
        if let Some(node_port) = port["nodePort"].as_i64().filter(|port| *port > 0) {
            line!(writer, 0, "NodePort:\t{name}\t{node_port}/{protocol}");
        }
        line!(writer, 0, "Endpoints:\t{}", addresses(&slices, &port["name"]));
    }
    line!(writer, 0, "Session Affinity:\t{}", text(&spec["sessionAffinity"]));
    for (title, field) in [
        ("External Traffic Policy", "externalTrafficPolicy"),
        ("Internal Traffic Policy", "internalTrafficPolicy"),
        ("TrafficDistribution", "trafficDistribution"),
    ] {
        if !text(&spec[field]).is_empty() {
            line!(writer, 0, "{title}:\t{}", text(&spec[field]));
        }
    }
    if let Some(port) = spec["healthCheckNodePort"].as_i64().filter(|port| *port > 0) {
        line!(writer, 0, "HealthCheck NodePort:\t{port}");
    }
    if items(&spec["loadBalancerSourceRanges"]).count() > 0 {
        line!(writer, 0, "LoadBalancer Source Ranges:\t{}", joined(&spec["loadBalancerSourceRanges"], ","));
    }
    Ok(())
}

/// The ready addresses of a port, three at most.
fn addresses(slices: &Value, port_name: &Value) -> String {
    let wanted = text(port_name);
    let mut found = Vec::new();
    for slice in items(&slices["items"]) {
        for port in items(&slice["ports"]).filter(|port| text(&port["name"]) == wanted) {
            for endpoint in items(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] != false) {
                found.extend(items(&endpoint["addresses"]).map(|address| {
                    let address = text(address);
                    let address = if address.contains(':') { format!("[{address}]") } else { address };
                    format!("{address}:{}", text(&port["port"]))
                }));
            }
        }
    }
    match found.len() {
        0 => "<none>".to_owned(),
        1..=3 => found.join(","),
        more => format!("{} + {} more...", found[..3].join(","), more - 3),
    }
}

pub fn endpoints(writer: &mut Writer, object: &Value) {
    writer.head(object);
    line!(writer, 0, "Subsets:");
    for subset in items(&object["subsets"]) {
        let list = |field: &str| {
            let ips: Vec<String> = items(&subset[field]).map(|address| text(&address["ip"])).collect();
            if ips.is_empty() { "<none>".to_owned() } else { ips.join(",") }
        };
        line!(writer, 0, "  Addresses:\t{}", list("addresses"));
        line!(writer, 0, "  NotReadyAddresses:\t{}", list("notReadyAddresses"));
        if items(&subset["ports"]).count() > 0 {
            line!(writer, 0, "  Ports:\n    Name\tPort\tProtocol\n    ----\t----\t--------");
            for port in items(&subset["ports"]) {
                line!(
                    writer,
                    2,
                    "{}\t{}\t{}",
                    or(&port["name"], "<unset>"),
                    text(&port["port"]),
                    text(&port["protocol"])
                );
            }
        }
        line!(writer, 0, "");
    }
}

pub fn ingress(writer: &mut Writer, object: &Value) {
    let spec = &object["spec"];
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    let addresses: Vec<String> = items(&object["status"]["loadBalancer"]["ingress"])
        .map(|entry| or(&entry["ip"], &text(&entry["hostname"])))
        .collect();
    line!(writer, 0, "Address:\t{}", addresses.join(","));
    line!(writer, 0, "Ingress Class:\t{}", or(&spec["ingressClassName"], "<none>"));
    let backend = |backend: &Value| {
        let service = &backend["service"];
        format!("{}:{}", text(&service["name"]), or(&service["port"]["number"], &text(&service["port"]["name"])))
    };
    let default =
        if spec["defaultBackend"].is_object() { backend(&spec["defaultBackend"]) } else { "<default>".to_owned() };
    line!(writer, 0, "Default backend:\t{default}");
    if items(&spec["tls"]).count() > 0 {
        line!(writer, 0, "TLS:");
        for tls in items(&spec["tls"]) {
            let hosts = joined(&tls["hosts"], ",");
            line!(
                writer,
                1,
                "{} terminates {}",
                or(&tls["secretName"], "SNI"),
                if hosts.is_empty() { "*" } else { &hosts }
            );
        }
    }
    line!(writer, 0, "Rules:\n  Host\tPath\tBackends\n  ----\t----\t--------");
    for rule in items(&spec["rules"]) {
        line!(writer, 1, "{}\t", or(&rule["host"], "*"));
        for path in items(&rule["http"]["paths"]) {
            line!(writer, 1, "\t{} \t{}", text(&path["path"]), backend(&path["backend"]));
        }
    }
    writer.annotations(object);
}
