//! The manifest that deploys the DNS server, as k3s deploys CoreDNS.

use std::net::IpAddr;

/// Name of the file in `server/manifests`.
pub const MANIFEST_NAME: &str = "coredns.yaml";
/// Reference of the image: the running binary under the name that CoreDNS has on k3s.
pub const IMAGE: &str = "docker.io/rancher/mirrored-coredns-coredns:k3s";

/// The manifest for a cluster.
pub fn manifest(cluster_dns: IpAddr, cluster_domain: &str) -> String {
    include_str!("coredns.yaml")
        .replace("%{CLUSTER_DNS}%", &cluster_dns.to_string())
        .replace("%{CLUSTER_DOMAIN}%", cluster_domain)
        .replace("%{IMAGE}%", IMAGE)
}
