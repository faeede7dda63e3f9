//! A pod's /etc/hosts.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::sandbox;
use super::spec;
use crate::config::Config;

const POD_HEADER: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
     ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

/// Writes the file and returns where it is. It changes with the addresses of a new sandbox.
pub(crate) fn write(config: &Config, pod: &Pod, pod_ips: &[String]) -> std::io::Result<PathBuf> {
    let dir = config.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("etc-hosts");
    // Written in place: containers have this very file mounted.
    std::fs::write(&path, contents(config, pod, pod_ips, Path::new("/etc/hosts")))?;
    Ok(path)
}

fn contents(config: &Config, pod: &Pod, pod_ips: &[String], node_file: &Path) -> String {
    let mut text = if spec::host_network(pod) {
        format!("{HOST_HEADER}{}", std::fs::read_to_string(node_file).unwrap_or_default())
    } else {
        let (hostname, domain) = sandbox::hostname_and_domain(config, pod);
        let mut text = POD_HEADER.to_owned();
        for ip in pod_ips {
            // Writing to a String does not fail.
            let _ = match &domain {
                Some(domain) => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
                None => writeln!(text, "{ip}\t{hostname}"),
            };
        }
        text
    };
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_its_domain_and_its_aliases_are_named() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"hostname": "web", "subdomain": "sub", "containers": [],
                     "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]}
        }))
        .unwrap();
        let text = contents(&Config::new("node"), &pod, &["10.42.0.5".into()], Path::new("/etc/hosts"));
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.contains("10.42.0.5\tweb.sub.n.svc.cluster.local\tweb\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n192.0.2.9\ta\tb\n"), "{text}");
    }
}
