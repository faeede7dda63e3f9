//! What a value of a flag looks like, and how it is read.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;

/// The form of a value. A value of another form is an error, even where the flag has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`, or nothing, which means `true`.
    Switch,
    /// Anything.
    Text,
    /// A path, of a file or a folder.
    Path,
    Number,
    /// 1 to 65535.
    Port,
    /// `30000-32767`.
    PortRange,
    Address,
    /// An address with a prefix length and no host bits.
    Network,
    /// Go's: `5m0s`.
    Duration,
    /// Octal permission bits.
    Mode,
    /// The name of a Node object.
    NodeName,
    /// `key=value`.
    Label,
    /// `key=value:Effect`.
    Taint,
    /// A flag of a component: `name=value`.
    Argument,
    /// `https://HOST:PORT`.
    Url,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Type {
    /// Whether `value` has this form.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Switch => boolean(value).map(drop),
            Self::Text | Self::Path => Ok(()),
            Self::Number => number(value).map(drop),
            Self::Port => port(value).map(drop),
            Self::PortRange => port_range(value).map(drop),
            Self::Address => address(value).map(drop),
            Self::Network => network(value).map(drop),
            Self::Duration => duration(value).map(drop),
            Self::Mode => mode(value).map(drop),
            Self::NodeName => node_name(value).map(drop),
            Self::Label => pair(value).map(drop),
            Self::Taint => taint(value).map(drop),
            Self::Argument => argument(value).map(drop),
            Self::Url => url(value).map(drop),
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => Err(format!("expected one of {}", words.join(", "))),
        }
    }
}

/// What Go's `strconv.ParseBool` takes, and YAML's words.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Ok(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

pub fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(low, high)| Some(port(low).ok()?..=port(high).ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "expected a range of ports such as 30000-32767".to_owned())
}

pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address".to_owned())
}

pub fn network(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| "expected a network such as 10.42.0.0/16".to_owned())?;
    if net.trunc() != net {
        return Err(format!("it has host bits set; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "expected a duration such as 5m0s".to_owned())
}

pub fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected an octal mode such as 0600".to_owned())
}

/// RFC 1123 subdomain: the name becomes an object's name.
pub fn node_name(text: &str) -> Result<String, String> {
    let ok = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(ok) {
        return Ok(text.to_owned());
    }
    Err("expected lower case letters, digits, '-' and '.'".to_owned())
}

/// How containers' file systems are made of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Snapshotter {
    /// Layers over one another; where the kernel can't, by fuse-overlayfs; where there is none, copies.
    #[default]
    Overlayfs,
    /// Layers over one another by the program fuse-overlayfs.
    FuseOverlayfs,
    /// Copies.
    Native,
}

/// A name of a snapshotter, as containerd has them.
pub fn snapshotter(text: &str) -> Result<Snapshotter, String> {
    match text {
        "overlayfs" => Ok(Snapshotter::Overlayfs),
        "native" => Ok(Snapshotter::Native),
        "fuse-overlayfs" => Ok(Snapshotter::FuseOverlayfs),
        _ => Err("expected overlayfs, fuse-overlayfs or native".to_owned()),
    }
}

pub fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected key=value".to_owned())
}

/// A flag of a component as k3s takes it, with or without the leading `--`.
pub fn argument(text: &str) -> Result<(String, String), String> {
    pair(text.trim_start_matches('-'))
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTaint {
    pub key: String,
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

pub fn taint(text: &str) -> Result<NodeTaint, String> {
    let (left, effect) = text.rsplit_once(':').ok_or_else(|| "expected key=value:Effect".to_owned())?;
    let (key, value) = left.split_once('=').map_or((left, None), |(key, value)| (key, Some(value.to_owned())));
    if key.is_empty() {
        return Err("expected key=value:Effect".to_owned());
    }
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err("the effect is NoSchedule, PreferNoSchedule or NoExecute".to_owned());
    }
    Ok(NodeTaint { key: key.to_owned(), value, effect: effect.to_owned() })
}

pub fn url(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(text.to_owned()),
        _ => Err("expected a server such as https://k3s.example.org:6443".to_owned()),
    }
}

/// Kubernetes' quantity of bytes, as far as settings have it: a number with K, M, G, Ki, Mi, Gi or nothing.
pub fn bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: Option<u64> = match unit {
        "" => Some(1),
        "k" | "K" => Some(1000),
        "M" => Some(1000 * 1000),
        "G" => Some(1000 * 1000 * 1000),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    let bytes = factor.zip(number).and_then(|(factor, number)| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a number of bytes such as 10Mi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_takes_what_kubernetes_takes_and_nothing_else() {
        for (kind, good, bad) in [
            (Type::Switch, &["true", "1", "False", "off"][..], &["", "maybe", "2"][..]),
            (Type::Number, &["0", "4"], &["-1", "four", ""]),
            (Type::Port, &["1", "65535"], &["0", "65536", "http"]),
            (Type::PortRange, &["30000-32767", "1-1"], &["30000", "2-1", "0-5"]),
            (Type::Address, &["10.0.0.1", "fd00::1"], &["10.0.0", "host"]),
            (Type::Network, &["10.42.0.0/16", "fd00::/48"], &["10.42.0.1/16", "10.42.0.0"]),
            (Type::Duration, &["5m0s", "1h", "90s", "1h30m", "500ms"], &["5", "-1s", "soon"]),
            (Type::Mode, &["600", "0644"], &["rw", "0888", "01777"]),
            (Type::NodeName, &["edge-1", "a.b"], &["", "Edge", "-a", "a..b"]),
            (Type::Label, &["a=b", "a="], &["a", "=b"]),
            (Type::Taint, &["a=b:NoExecute", "a:NoSchedule"], &["a=b", "a=b:Never", ":NoExecute"]),
            (Type::Argument, &["v=4", "--v=4", "a=b=c"], &["v"]),
            (Type::Url, &["https://a:6443", "https://a/"], &["http://a", "a:6443", "https://a/b"]),
            (Type::OneOf(&["vxlan", "none"]), &["none"], &["", "ipsec"]),
        ] {
            for value in good {
                assert_eq!(kind.check(value), Ok(()), "{kind:?} {value:?}");
            }
            for value in bad {
                assert!(kind.check(value).is_err(), "{kind:?} {value:?}");
            }
        }
    }

    #[test]
    fn a_network_with_host_bits_is_told_its_own() {
        assert!(network("10.42.7.1/16").unwrap_err().contains("10.42.0.0/16"));
    }

    #[test]
    fn quantities_of_bytes() {
        assert_eq!(bytes("10Mi"), Ok(10 << 20));
        assert_eq!(bytes("5"), Ok(5));
        assert_eq!(bytes("2k"), Ok(2000));
        for bad in ["", "Mi", "10Mb", "99999999999999Gi", "1.5Gi"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
