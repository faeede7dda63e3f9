//! Ports, addresses and nftables.

use std::net::{Ipv4Addr, TcpListener};

use ipnet::Ipv4Net;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::kernel::Config;
use super::{Finding, Host};

/// What k3s listens on by default. Rootless, the kubelet's port is in the namespaces.
const API: u16 = 6443;
const KUBELET: u16 = 10250;

pub fn findings(host: &Host, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![nftables(host, config), port(API, "choose another by --https-listen-port")];
    if host.is_root() {
        findings.push(port(KUBELET, "stop what listens there"));
    }
    findings.push(routes(host));
    findings.push(low_ports(host));
    findings
}

/// The kernel's side of it; k3s needs no program.
fn nftables(host: &Host, config: Option<&Config>) -> Finding {
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let mend = "sudo modprobe nf_tables (and: echo nf_tables | sudo tee /etc/modules-load.d/k3s.conf)";
    match netlink {
        Err(error) => Finding::fail("nftables", format!("the kernel has no netfilter over netlink: {error}"), mend),
        Ok(_) if config.is_some_and(|config| config.has_built_in("NF_TABLES")) => Finding::pass("nftables", "built in"),
        Ok(_) if host.has_module("nf_tables") => Finding::pass("nftables", "loaded"),
        Ok(_) if host.is_root() => Finding::pass("nftables", "loaded when it is needed, or built in"),
        // A user's namespaces can't load modules on every distribution.
        Ok(_) => Finding::warn("nftables", "not loaded, or built in; services need it", mend),
    }
}

fn port(port: u16, mend: &str) -> Finding {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => Finding::pass(format!("port {port}"), "free"),
        Err(error) => Finding::warn(format!("port {port}"), format!("{error}; is k3s running already?"), mend),
    }
}

/// Whether something else already is where pods and services would be.
fn routes(host: &Host) -> Finding {
    let routes = host.read("/proc/net/route").unwrap_or_default();
    for (default, flag) in [("10.42.0.0/16", "--cluster-cidr"), ("10.43.0.0/16", "--service-cidr")] {
        let network: Ipv4Net = default.parse().expect("a network");
        let taken = routes_in(&routes).find(|(name, route)| {
            name != "cni0" && route.prefix_len() > 0 && (network.contains(route) || route.contains(&network))
        });
        if let Some((interface, route)) = taken {
            let what = format!("{route} is routed by {interface}, and k3s's {default} overlaps with it");
            return Finding::warn("routes", what, format!("choose another network by {flag}"));
        }
    }
    Finding::pass("routes", "10.42.0.0/16 and 10.43.0.0/16 are free")
}

/// Interfaces and networks of `/proc/net/route`: numbers are hexadecimal, in the machine's byte order.
fn routes_in(table: &str) -> impl Iterator<Item = (String, Ipv4Net)> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(|it| Ipv4Addr::from(it.to_ne_bytes()));
        let network = number(fields.get(1)?)?;
        let prefix = u32::from(number(fields.get(7)?)?).count_ones();
        Some(((*fields.first()?).to_owned(), Ipv4Net::new(network, u8::try_from(prefix).ok()?).ok()?))
    })
}

/// Load balancers on ports below 1024 are for whoever may open them.
fn low_ports(host: &Host) -> Finding {
    let first = host.read("/proc/sys/net/ipv4/ip_unprivileged_port_start").and_then(|value| value.parse::<u16>().ok());
    match first {
        _ if host.is_root() => Finding::pass("ports below 1024", "open to root"),
        Some(first) if first <= 80 => Finding::pass("ports below 1024", format!("open to users from {first} on")),
        _ => Finding::warn(
            "ports below 1024",
            "closed to this user; optional",
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80 (and in /etc/sysctl.d to keep it)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Temporary, is_pass, is_warn};
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    #[test]
    fn a_route_into_the_networks_of_pods_or_services_is_told() {
        let host = Temporary::new();
        let line = |interface: &str, network: [u8; 4], mask: [u8; 4]| {
            let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!("{interface}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(network), hex(mask))
        };
        let usual = [
            line("eth0", [0, 0, 0, 0], [0, 0, 0, 0]),
            line("eth0", [192, 168, 1, 0], [255, 255, 255, 0]),
            line("cni0", [10, 42, 0, 0], [255, 255, 255, 0]),
        ]
        .concat();
        host.write("/proc/net/route", &format!("{HEAD}{usual}"));
        assert!(is_pass(&routes(&host.host)));
        let vpn = line("tun0", [10, 0, 0, 0], [255, 0, 0, 0]);
        host.write("/proc/net/route", &format!("{HEAD}{usual}{vpn}"));
        assert!(is_warn(&routes(&host.host), "--cluster-cidr"));
        let services = line("tun0", [10, 43, 7, 0], [255, 255, 255, 0]);
        host.write("/proc/net/route", &format!("{HEAD}{usual}{services}"));
        assert!(is_warn(&routes(&host.host), "--service-cidr"));
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert!(is_warn(&port(taken.local_addr().unwrap().port(), "choose another"), "choose another"));
    }

    #[test]
    fn low_ports_follow_the_kernels_setting() {
        let mut host = Temporary::new();
        host.host.uid = 1000;
        host.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n");
        assert!(is_warn(&low_ports(&host.host), "ip_unprivileged_port_start=80"));
        host.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0\n");
        assert!(is_pass(&low_ports(&host.host)));
    }
}
