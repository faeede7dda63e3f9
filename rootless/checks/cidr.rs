//! Whether the network to the driver is one that the host is in itself.

use std::fs;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{CheckError, HostPaths};

/// Whether the host has a network of its own in the CIDR. What is there could not be reached from inside: the
/// driver's own network would be in front of it. A route by way of a gateway (a company's 10.0.0.0/8, say) is no
/// collision: only a small part of it is covered, and nothing says that anybody lives there.
///
/// # Errors
/// [`CheckError::CidrCollides`], with a network that is free.
pub fn cidr(host: &HostPaths, cidr: Ipv4Net) -> Result<(), CheckError> {
    let routes = fs::read_to_string(host.proc.join("net/route")).unwrap_or_default();
    let connected: Vec<(String, Ipv4Net)> = routes.lines().filter_map(connected).collect();
    let collides = |cidr: &Ipv4Net| connected.iter().find(|(_, network)| overlap(cidr, network));
    let Some((device, network)) = collides(&cidr) else { return Ok(()) };
    let proposals = (41..=254).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(10, n, 0, 0), 16));
    // 10.42.0.0/16 and 10.43.0.0/16 are pods' and services'.
    let free = proposals.filter(|p| !["10.42.0.0/16", "10.43.0.0/16"].contains(&p.to_string().as_str()));
    let free = free.chain([Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 241, 0), 24)]).find(|p| collides(p).is_none());
    let (device, network) = (device.clone(), *network);
    // A host that is in all of them has to look for itself.
    Err(CheckError::CidrCollides { cidr, network, device, free: free.unwrap_or(cidr) })
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// A line of `/proc/net/route` of a directly connected network: device, destination, gateway, flags, …, mask.
/// Addresses are hexadecimal numbers in the byte order of the network, read as if it were the host's.
fn connected(line: &str) -> Option<(String, Ipv4Net)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |n: usize| u32::from_str_radix(fields.get(n)?, 16).ok();
    let address = |n: usize| Some(Ipv4Addr::from(number(n)?.to_ne_bytes()));
    let by_gateway = 2;
    if number(3)? & by_gateway != 0 {
        return None;
    }
    let network = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
    // A default route without a gateway (a point-to-point link) is everything, and no network.
    (network.prefix_len() > 0).then(|| (fields[0].to_owned(), network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::{TestHost, message};

    const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn line(device: &str, network: [u8; 4], gateway: bool, mask: [u8; 4]) -> String {
        let hex = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let flags = if gateway { 3 } else { 1 };
        format!("{device}\t{}\t00000000\t{flags:04}\t0\t0\t0\t{}\t0\t0\t0\n", hex(network), hex(mask))
    }

    #[test]
    fn a_network_of_the_hosts_own_collides_and_a_free_one_is_proposed() {
        let host = TestHost::new("cidr");
        let ours: Ipv4Net = "10.41.0.0/16".parse().unwrap();
        let of = |lines: &[String]| host.write("proc/net/route", &format!("{HEAD}{}", lines.concat()));
        of(&[line("eth0", [192, 168, 7, 0], false, [255, 255, 255, 0])]);
        cidr(&host.paths, ours).unwrap();
        of(&[line("wg0", [10, 41, 3, 0], false, [255, 255, 255, 0])]);
        let needles = ["10.41.0.0/16", "10.41.3.0/24", "wg0", "K3S_ROOTLESS_CIDR=10.44.0.0/16"];
        message(cidr(&host.paths, ours), &needles);
        of(&[line("eth0", [10, 0, 0, 0], false, [255, 0, 0, 0])]);
        message(cidr(&host.paths, ours), &["10.0.0.0/8", "K3S_ROOTLESS_CIDR=192.168.241.0/24"]);
    }

    #[test]
    fn what_lies_behind_a_gateway_is_no_collision() {
        let host = TestHost::new("cidr-gateway");
        let lines = [line("eth0", [0; 4], true, [0; 4]), line("eth0", [10, 0, 0, 0], true, [255, 0, 0, 0])];
        host.write("proc/net/route", &format!("{HEAD}{}", lines.concat()));
        cidr(&host.paths, "10.41.0.0/16".parse().unwrap()).unwrap();
    }
}
