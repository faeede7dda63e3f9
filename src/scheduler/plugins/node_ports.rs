use k8s_openapi::api::core::v1::Pod;

use crate::framework::Filter;
use crate::node::{HostPort, NodeInfo, View, host_ports};

/// Host ports can be taken once.
pub struct NodePorts;

fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || any(&a.1) || any(&b.1))
}

impl Filter for NodePorts {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        let wanted = host_ports(pod);
        if wanted.is_empty() {
            return Ok(());
        }
        let mut taken = node.pods.values().flat_map(|pod| host_ports(pod));
        if taken.any(|taken| wanted.iter().any(|port| collide(port, &taken))) {
            return Err("node(s) didn't have free ports for the requested pod ports".to_owned());
        }
        Ok(())
    }
}
