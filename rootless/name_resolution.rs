//! `/etc/resolv.conf` and `/etc/hosts` inside: the driver's DNS forwarder, and the host's name at
//! the tap device's address.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::copy_up::ORIGINALS;
use crate::host::NetworkInfo;

/// Writes both anew. They lie in the copied-up /etc, so the host's stay as they are.
pub(crate) fn write(network: &NetworkInfo) -> io::Result<()> {
    let hosts = original("hosts");
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if let Some(dns) = network.dns {
        replace("/etc/resolv.conf", &resolv_conf(&original("resolv.conf"), dns.into()))?;
    }
    replace("/etc/hosts", &hosts_file(&hosts, &hostname, network.address.into()))
}

/// The host's own file, empty where it has none.
fn original(name: &str) -> String {
    let path = Path::new("/etc").join(ORIGINALS).join(name);
    // A relative link is meant from /etc, as in ../run/systemd/resolve/stub-resolv.conf.
    let path = fs::read_link(&path).map(|target| Path::new("/etc").join(target)).unwrap_or(path);
    fs::read_to_string(path).unwrap_or_default()
}

/// Atomic, and in place of a link rather than through it.
fn replace(path: &str, text: &str) -> io::Result<()> {
    let partial = PathBuf::from(format!("{path}.k3s"));
    fs::write(&partial, text)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o644))?;
    fs::rename(&partial, path)
}

fn resolv_conf(hosts: &str, dns: IpAddr) -> String {
    let mut text = format!("nameserver {dns}\n");
    // The host's servers cannot be reached by their address, if they are on its loopback; what it
    // searches holds inside as well.
    let kept = |line: &&str| ["search", "domain", "options"].iter().any(|k| line.split_whitespace().next() == Some(k));
    for line in hosts.lines().filter(kept) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn hosts_file(hosts: &str, hostname: &str, address: IpAddr) -> String {
    let mut text = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {hostname}\n");
    for line in hosts.lines() {
        let entry = line.split('#').next().unwrap_or_default();
        let mut fields = entry.split_whitespace();
        let address = fields.next().and_then(|a| a.parse::<IpAddr>().ok());
        // The host's loopback is not ours, and its name is written above.
        if address.is_some_and(|a| !a.is_loopback()) && !fields.any(|name| name == hostname) {
            text.push_str(entry.trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_of_the_driver_with_the_hosts_search_list() {
        let hosts = "# generated\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n";
        let text = resolv_conf(hosts, [10, 41, 0, 3].into());
        assert_eq!(text, "nameserver 10.41.0.3\noptions edns0 trust-ad\nsearch example.org\n");
    }

    #[test]
    fn the_hosts_name_is_the_tap_device_and_other_entries_stay() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 edge\n192.0.2.7 edge edge.lan\n192.0.2.9 db # the database\nff02::1 ip6-allnodes\n";
        let text = hosts_file(hosts, "edge", [10, 41, 0, 100].into());
        assert_eq!(
            text,
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.41.0.100 edge\n192.0.2.9 db\nff02::1 ip6-allnodes\n"
        );
    }
}
