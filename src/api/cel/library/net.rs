//! Addresses and networks.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;

pub const DECLARATIONS: &str = "
ip(string) -> net.IP
isIP(string) -> bool
ip.isCanonical(string) -> bool
string(net.IP) -> string
net.IP.family() -> int
net.IP.isUnspecified() -> bool
net.IP.isLoopback() -> bool
net.IP.isLinkLocalMulticast() -> bool
net.IP.isLinkLocalUnicast() -> bool
net.IP.isGlobalUnicast() -> bool
cidr(string) -> net.CIDR
isCIDR(string) -> bool
string(net.CIDR) -> string
net.CIDR.containsIP(net.IP) -> bool
net.CIDR.containsIP(string) -> bool
net.CIDR.containsCIDR(net.CIDR) -> bool
net.CIDR.containsCIDR(string) -> bool
net.CIDR.ip() -> net.IP
net.CIDR.masked() -> net.CIDR
net.CIDR.prefixLength() -> int
";

fn opaque<'a>(of: Opaque) -> Value<'a> {
    Value::Opaque(Arc::new(of))
}

/// An address. Kubernetes takes no IPv4 address in an IPv6 one.
fn parse_ip(text: &str) -> Result<IpAddr, Error> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => {
            Err(Error::message(format!("IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        Ok(ip) => Ok(ip),
        Err(_) => Err(Error::message(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))),
    }
}

fn parse_cidr(text: &str) -> Result<IpNet, Error> {
    let wrong = || {
        Error::message(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): no '/'"
        ))
    };
    let net: IpNet = text.parse().map_err(|_| wrong())?;
    parse_ip(&net.addr().to_string()).map(|_| net)
}

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    match args {
        [Value::String(text)] => of_text(name, text),
        [Value::Opaque(own), rest @ ..] => match &**own {
            Opaque::Ip(ip) if rest.is_empty() => of_ip(name, *ip).map(Ok),
            Opaque::Cidr(net) => of_cidr(name, net, rest),
            _ => None,
        },
        _ => None,
    }
}

fn of_text<'a>(name: &str, text: &str) -> Returned<'a> {
    Some(match name {
        "ip" => parse_ip(text).map(|ip| opaque(Opaque::Ip(ip))),
        "isIP" => Ok(Value::Bool(parse_ip(text).is_ok())),
        "ip.isCanonical" => parse_ip(text).map(|ip| Value::Bool(ip.to_string() == text)),
        "cidr" => parse_cidr(text).map(|net| opaque(Opaque::Cidr(net))),
        "isCIDR" => Ok(Value::Bool(parse_cidr(text).is_ok())),
        _ => return None,
    })
}

fn of_ip<'a>(name: &str, ip: IpAddr) -> Option<Value<'a>> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    Some(match name {
        "family" => Value::Int(if ip.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(ip.is_unspecified()),
        "isLoopback" => Value::Bool(ip.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(link_local_multicast),
        "isLinkLocalUnicast" => Value::Bool(link_local),
        "isGlobalUnicast" => {
            Value::Bool(!(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local || broadcast))
        }
        _ => return None,
    })
}

fn of_cidr<'a>(name: &str, net: &IpNet, rest: &[Value<'a>]) -> Returned<'a> {
    let other = match rest {
        [Value::Opaque(other)] => Some((**other).clone()),
        [Value::String(text)] if name == "containsIP" => match parse_ip(text) {
            Ok(ip) => Some(Opaque::Ip(ip)),
            Err(error) => return Some(Err(error)),
        },
        [Value::String(text)] if name == "containsCIDR" => match parse_cidr(text) {
            Ok(net) => Some(Opaque::Cidr(net)),
            Err(error) => return Some(Err(error)),
        },
        [] => None,
        _ => return None,
    };
    Some(Ok(match (name, other) {
        ("containsIP", Some(Opaque::Ip(ip))) => Value::Bool(net.contains(&ip)),
        ("containsCIDR", Some(Opaque::Cidr(other))) => Value::Bool(net.contains(&other.trunc())),
        ("ip", None) => opaque(Opaque::Ip(net.addr())),
        ("masked", None) => opaque(Opaque::Cidr(net.trunc())),
        ("prefixLength", None) => Value::Int(net.prefix_len().into()),
        _ => return None,
    }))
}
