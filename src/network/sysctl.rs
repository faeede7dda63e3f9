//! Kernel settings of the network namespace.
//!
//! `/proc/sys/net` is that of the thread's network namespace; in a user namespace its root may write most of it.

use std::path::Path;

/// Lets the node route between pods and the world, and rewrites what pods of one bridge say to each other.
pub(crate) fn prepare(bridge: &str) {
    if !set("ipv4/ip_forward", "1") {
        tracing::warn!("pods reach nothing outside their node: net.ipv4.ip_forward is 0 and can't be written");
    }
    // Loose: answers to connections from 127.0.0.1 to a node port come back on another interface than they would go.
    set(&format!("ipv4/conf/{bridge}/rp_filter"), "2");
    // Lets 127.0.0.1:nodePort leave to a pod after its source has been masqueraded.
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1");
    // Cluster IPs are routed to the interface pods are on, so the kernel would tell pods of a shorter way, and for each
    // redirect hold back the "port unreachable" by which a service without endpoints refuses. An interface sends
    // redirects if its own setting or that of all says so; other interfaces keep theirs.
    set("ipv4/conf/all/send_redirects", "0");
    set(&format!("ipv4/conf/{bridge}/send_redirects"), "0");
}

/// Whether frames between ports of a bridge pass the IP hooks, so that the answer of a pod to its neighbour on the same
/// bridge gets the cluster IP back as its source. Turns it on if it can.
pub(crate) fn bridged_traffic_is_seen() -> bool {
    set("bridge/bridge-nf-call-iptables", "1")
}

/// Whether the setting has the value now.
fn set(name: &str, value: &str) -> bool {
    let path = Path::new("/proc/sys/net").join(name);
    let is = || std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value);
    if is() {
        return true;
    }
    if let Err(error) = std::fs::write(&path, value) {
        tracing::debug!(path = %path.display(), value, %error, "kernel setting not written");
    }
    is()
}
