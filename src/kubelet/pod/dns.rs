//! What a pod's /etc/resolv.conf says.

use k3s_cri::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use super::spec;
use crate::config::Config;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// The resolver settings of a pod by its `dnsPolicy` and `dnsConfig`. `node` is the node's resolv.conf.
pub(crate) fn of_pod(config: &Config, pod: &Pod, node: &str) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut dns = match policy {
        "None" => DnsConfig::default(),
        _ if cluster_first && !config.cluster_dns.is_empty() => cluster(config, pod, node),
        _ => parse(node),
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        append_new(&mut dns.servers, own.nameservers.iter().flatten());
        append_new(&mut dns.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            // A pod's own option replaces an inherited one of the same name.
            dns.options.retain(|known| known.split(':').next() != Some(name));
            dns.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    dns.servers.truncate(MAX_NAMESERVERS);
    dns.searches.truncate(MAX_SEARCHES);
    dns
}

fn cluster(config: &Config, pod: &Pod, node: &str) -> DnsConfig {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &config.cluster_domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    append_new(&mut searches, parse(node).searches.iter());
    DnsConfig {
        servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".into()],
    }
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// Reads a resolv.conf; of several `search` lines the last counts.
fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                dns.searches = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                dns.searches.retain(|search| !search.is_empty());
            }
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "# node\nnameserver 192.0.2.1\nsearch corp.example.\noptions edns0\n";

    fn resolve(spec: serde_json::Value) -> DnsConfig {
        let mut config = Config::new("node");
        config.cluster_dns = vec!["10.43.0.10".parse().unwrap()];
        let pod = serde_json::json!({"metadata": {"namespace": "n"}, "spec": spec});
        of_pod(&config, &serde_json::from_value(pod).unwrap(), NODE)
    }

    #[test]
    fn policies_choose_the_servers() {
        let cluster = resolve(serde_json::json!({"containers": []}));
        assert_eq!(cluster.servers, ["10.43.0.10"]);
        assert_eq!(cluster.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]);
        assert_eq!(cluster.options, ["ndots:5"]);

        let host = resolve(serde_json::json!({"containers": [], "hostNetwork": true}));
        assert_eq!(host.servers, ["192.0.2.1"]);
        let with_host =
            serde_json::json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(resolve(with_host).servers, ["10.43.0.10"]);
        let default = resolve(serde_json::json!({"containers": [], "dnsPolicy": "Default"}));
        assert_eq!((default.servers, default.options), (vec!["192.0.2.1".into()], vec!["edns0".into()]));
    }

    #[test]
    fn a_pods_own_settings_are_added_and_win() {
        let own = resolve(serde_json::json!({"containers": [], "dnsConfig": {
            "nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}]}}));
        assert_eq!(own.servers, ["10.43.0.10", "1.1.1.1"]);
        assert_eq!(own.options, ["ndots:2", "debug"]);
        let none = resolve(serde_json::json!({"containers": [], "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["1.1.1.1"]}}));
        assert_eq!(none.servers, ["1.1.1.1"]);
        assert!(none.searches.is_empty());
    }
}
