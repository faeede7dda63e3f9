//! Addresses and ranges that are written in another way than they should be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::node::Node;
use crate::quote::quote;

/// As Go's older parser reads it: zeros may lead in IPv4.
fn lenient(text: &str) -> Option<IpAddr> {
    let v4 = |text: &str| {
        let octets: Vec<u8> = text
            .split('.')
            .map(|octet| {
                let digits = !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| octet.parse().ok()).flatten()
            })
            .collect::<Option<_>>()?;
        <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
    };
    if text.contains(':') { text.parse::<Ipv6Addr>().ok().map(IpAddr::V6) } else { v4(text) }
}

/// An IPv4 address in the form of IPv6 is the IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn is_mapped(address: IpAddr) -> bool {
    plain(address) != address
}

/// What is odd about an address.
pub(super) fn ip(at: &Node, out: &mut Vec<String>) {
    let text = at.text();
    let Some(address) = lenient(text) else { return };
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        out.push(format!(
            "{}: non-standard IP address {} will be considered invalid in a future Kubernetes release: use {}",
            at.path,
            quote(text),
            quote(&plain(address).to_string())
        ));
    } else if address.is_ipv6() && address.to_string() != text {
        let canonical = quote(&address.to_string());
        out.push(format!(
            "{}: IPv6 address {} should be in RFC 5952 canonical format ({canonical})",
            at.path,
            quote(text)
        ));
    }
}

/// What is odd about a range.
pub(super) fn cidr(at: &Node, out: &mut Vec<String>) {
    let text = at.text();
    let Some((address, length)) = text.split_once('/') else { return };
    let (Some(given), Ok(bits)) = (lenient(address), length.parse::<u32>()) else { return };
    let is_odd = address.parse::<IpAddr>().is_err() || is_mapped(given) || length != bits.to_string();
    let base = masked(given, bits);
    let range = if is_mapped(given) {
        format!("{}/{}", plain(base), bits.saturating_sub(96))
    } else {
        format!("{base}/{bits}")
    };
    let before = out.len();
    if base != given {
        let whole = if given.is_ipv4() { 32 } else { 128 };
        out.push(format!(
            "{}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            at.path,
            quote(text),
            quote(&range),
            quote(&format!("{}/{whole}", plain(given)))
        ));
    }
    if is_odd {
        out.push(format!(
            "{}: non-standard CIDR value {} will be considered invalid in a future Kubernetes release: use {}",
            at.path,
            quote(text),
            quote(&range)
        ));
    }
    if out.len() == before && given.is_ipv6() && range != text {
        let canonical = quote(&range);
        out.push(format!(
            "{}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({canonical})",
            at.path,
            quote(text)
        ));
    }
}

fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(of: fn(&Node, &mut Vec<String>), text: &str) -> Vec<String> {
        let mut out = Vec::new();
        of(&Node::root(&json!({"a": text})).field("a"), &mut out);
        out
    }

    #[test]
    fn addresses_have_one_form() {
        assert!(told(ip, "192.12.2.2").is_empty() && told(ip, "2001:db8::2").is_empty() && told(ip, "x").is_empty());
        let odd = "will be considered invalid in a future Kubernetes release: use \"192.12.2.2\"";
        assert_eq!(told(ip, "192.012.2.2"), [format!("a: non-standard IP address \"192.012.2.2\" {odd}")]);
        assert_eq!(told(ip, "::ffff:192.12.2.2"), [format!("a: non-standard IP address \"::ffff:192.12.2.2\" {odd}")]);
        assert_eq!(
            told(ip, "2001:db8:0:0::2"),
            ["a: IPv6 address \"2001:db8:0:0::2\" should be in RFC 5952 canonical format (\"2001:db8::2\")"]
        );
    }

    #[test]
    fn ranges_have_one_form() {
        assert!(told(cidr, "10.0.0.0/8").is_empty() && told(cidr, "2001:db8::/32").is_empty());
        assert_eq!(
            told(cidr, "192.168.1.5/24"),
            [
                "a: CIDR value \"192.168.1.5/24\" is ambiguous in this context (should be \"192.168.1.0/24\" or \"192.168.1.5/32\"?)"
            ]
        );
        assert_eq!(
            told(cidr, "192.168.001.0/24"),
            [
                "a: non-standard CIDR value \"192.168.001.0/24\" will be considered invalid in a future Kubernetes release: use \"192.168.1.0/24\""
            ]
        );
        assert_eq!(
            told(cidr, "2001:DB8::/32"),
            ["a: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format (\"2001:db8::/32\")"]
        );
    }
}
