//! The sandbox of a pod.

use std::collections::BTreeMap;

use k3s_cri::{IdMappings, NamespaceOptions, PidMode, PodSandboxConfig, PortMapping, Protocol};
use k8s_openapi::api::core::v1::Pod;

use super::{dns, resources, spec};
use crate::config::Config;
use crate::labels;

/// Linux allows 64 bytes for a host name; Kubernetes cuts at a label's 63.
const MAX_HOSTNAME: usize = 63;

/// The sandbox of a pod on its `attempt`-th time. `node_resolv_conf` is the text of the node's resolv.conf; `user` the ids
/// of its user namespace, if it has one of its own.
pub(super) fn config(
    config: &Config,
    pod: &Pod,
    attempt: u32,
    node_resolv_conf: &str,
    user: Option<IdMappings>,
) -> PodSandboxConfig {
    let metadata = &pod.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let uid = metadata.uid.clone().unwrap_or_default();
    let pod_spec = pod.spec.as_ref();
    let host_network = spec::host_network(pod);
    let flag = |value: Option<bool>| value == Some(true);
    let pid = match pod_spec {
        Some(spec) if flag(spec.host_pid) => PidMode::Host,
        Some(spec) if flag(spec.share_process_namespace) => PidMode::Pod,
        _ => PidMode::Container,
    };
    let sysctls = pod_spec.and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref());
    let hostname = hostname_and_domain(config, pod);
    PodSandboxConfig {
        hostname: if host_network { String::new() } else { kernel_hostname(pod, hostname) },
        log_directory: config.pod_log_dir(&namespace, &name, &uid),
        dns: Some(dns::of_pod(config, pod, node_resolv_conf)),
        port_mappings: if host_network { Vec::new() } else { port_mappings(pod) },
        labels: labels::of_pod(pod),
        annotations: metadata.annotations.clone().unwrap_or_default(),
        namespaces: NamespaceOptions {
            host_network,
            host_ipc: pod_spec.is_some_and(|spec| flag(spec.host_ipc)),
            pid,
            user,
        },
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect::<BTreeMap<_, _>>(),
        cgroup_parent: resources::cgroup_parent(pod),
        resources: resources::of_pod(pod),
        name,
        namespace,
        uid,
        attempt,
        runtime_handler: String::new(),
    }
}

/// The pod's host name, and its domain if it has a subdomain.
pub(super) fn hostname_and_domain(config: &Config, pod: &Pod) -> (String, Option<String>) {
    let pod_spec = pod.spec.as_ref();
    if let Some(name) = pod_spec.and_then(|spec| spec.hostname_override.clone()).filter(|name| !name.is_empty()) {
        return (name, None);
    }
    if spec::host_network(pod) {
        return (config.hostname.clone(), None);
    }
    let own = pod_spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut hostname = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    if hostname.len() > MAX_HOSTNAME {
        hostname.truncate(MAX_HOSTNAME);
        hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = pod_spec.and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    (hostname, subdomain.map(|subdomain| format!("{subdomain}.{namespace}.svc.{}", config.cluster_domain)))
}

fn kernel_hostname(pod: &Pod, (hostname, domain): (String, Option<String>)) -> String {
    let as_fqdn = pod.spec.as_ref().is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    match domain {
        Some(domain) if as_fqdn => format!("{hostname}.{domain}"),
        _ => hostname,
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    });
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let host_port = u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?;
            Some(PortMapping {
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                container_port: u16::try_from(port.container_port).ok()?,
                host_port,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(spec: serde_json::Value) -> PodSandboxConfig {
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec});
        config(&Config::new("node"), &serde_json::from_value(pod).unwrap(), 0, "", None)
    }

    #[test]
    fn host_ports_are_mapped_but_not_on_the_hosts_own_network() {
        let ports =
            serde_json::json!([{"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}, {"containerPort": 80}]);
        let own = sandbox(serde_json::json!({"containers": [{"name": "c", "ports": ports}]}));
        assert_eq!(own.port_mappings.len(), 1);
        assert_eq!((own.port_mappings[0].protocol, own.port_mappings[0].host_port), (Protocol::Udp, 5353));
        let host = sandbox(serde_json::json!({"hostNetwork": true, "containers": [{"name": "c", "ports": ports}]}));
        assert!(host.port_mappings.is_empty() && host.hostname.is_empty() && host.namespaces.host_network);
    }

    #[test]
    fn the_host_name_is_the_pods_unless_it_says_otherwise() {
        assert_eq!(sandbox(serde_json::json!({"containers": []})).hostname, "p");
        let named = serde_json::json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true});
        assert_eq!(sandbox(named).hostname, "h.s.n.svc.cluster.local");
    }
}
