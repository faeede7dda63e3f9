//! Ports of a pod's containers that get into each other's way.

use super::super::node::Node;

struct Known {
    path: String,
    number: i64,
    protocol: String,
    host_port: i64,
    host_ip: String,
}

/// Of all containers of a pod, in order.
pub(super) fn ports(spec: &Node, out: &mut Vec<String>) {
    let mut all: Vec<Known> = Vec::new();
    for list in super::pod_spec::CONTAINERS {
        for container in spec.field(list).items() {
            for port in container.field("ports").items() {
                let known = read(&port);
                if !known.host_ip.is_empty() && known.host_port == 0 {
                    out.push(format!(
                        "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                        known.path,
                        port.field("name").text(),
                        known.number,
                        known.protocol,
                        known.host_ip
                    ));
                }
                let same_port = |other: &&Known| other.number == known.number && other.protocol == known.protocol;
                for other in all.iter().filter(same_port) {
                    if let Some(how) = clash(&known, other) {
                        out.push(format!("{}: {how} port definition with {}", known.path, other.path));
                    }
                }
                all.push(known);
            }
        }
    }
}

fn read(port: &Node) -> Known {
    let protocol = port.field("protocol").text();
    Known {
        path: port.path.to_string(),
        number: port.field("containerPort").int().unwrap_or_default(),
        protocol: if protocol.is_empty() { "TCP" } else { protocol }.to_owned(),
        host_port: port.field("hostPort").int().unwrap_or_default(),
        host_ip: port.field("hostIP").text().to_owned(),
    }
}

fn clash(one: &Known, other: &Known) -> Option<&'static str> {
    if one.host_port == other.host_port && one.host_ip == other.host_ip {
        Some("duplicate")
    } else if one.host_port == 0 || other.host_port == 0 {
        // The port of the host that is left out is redundant with any other: odd, and no danger.
        Some("overlapping")
    } else if one.host_port == other.host_port && one.host_ip.is_empty() != other.host_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}
