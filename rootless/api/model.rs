//! The JSON of rootlesskit's API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::Info;
use crate::port::Protocol;
use crate::published::{PortId, PublishedPort};

/// The version of the API that this is: rootlesskit 1.1's.
const API_VERSION: &str = "1.1.1";

/// `GET /v1/info`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RootlessInfo {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    version: &'static str,
    state_dir: PathBuf,
    #[serde(rename = "childPID")]
    child_pid: i32,
    network_driver: NetworkDriverInfo,
    port_driver: PortDriverInfo,
}

#[derive(Debug, Serialize)]
struct NetworkDriverInfo {
    driver: String,
    dns: Vec<Ipv4Addr>,
    #[serde(rename = "childIP")]
    child_ip: Ipv4Addr,
    #[serde(rename = "dynamicChildIP")]
    dynamic_child_ip: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortDriverInfo {
    driver: &'static str,
    protos: Vec<&'static str>,
    disallow_loopback_child_ip: bool,
}

impl From<&Info> for RootlessInfo {
    fn from(info: &Info) -> Self {
        Self {
            api_version: API_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            state_dir: info.state_dir.clone(),
            child_pid: info.init_pid,
            network_driver: NetworkDriverInfo {
                driver: info.net_driver.clone(),
                dns: info.network.dns.into_iter().collect(),
                child_ip: info.network.address,
                dynamic_child_ip: false,
            },
            port_driver: PortDriverInfo {
                driver: info.port_driver.name(),
                // With an address family at the end: that family only. Our sockets are of the family that is asked for.
                protos: vec!["tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"],
                disallow_loopback_child_ip: false,
            },
        }
    }
}

/// A port as it is asked for. An empty or missing address means any of the host, and the loopback inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PortSpec {
    pub proto: String,
    #[serde(rename = "parentIP", default, skip_serializing_if = "String::is_empty")]
    pub parent_ip: String,
    #[serde(rename = "parentPort")]
    pub parent_port: u16,
    #[serde(rename = "childIP", default, skip_serializing_if = "String::is_empty")]
    pub child_ip: String,
    #[serde(rename = "childPort")]
    pub child_port: u16,
}

/// A port that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PortStatus {
    id: PortId,
    spec: PortSpec,
}

/// Every error.
#[derive(Debug, Serialize)]
pub(super) struct ErrorJson {
    pub message: String,
}

impl PortSpec {
    /// What is to be published. The error is text for the caller.
    pub fn parse(&self) -> Result<(Protocol, SocketAddr, SocketAddr), String> {
        let (protocol, family) = match self.proto.as_str() {
            "tcp" | "tcp4" => (Protocol::Tcp, Ipv4Addr::UNSPECIFIED.into()),
            "udp" | "udp4" => (Protocol::Udp, Ipv4Addr::UNSPECIFIED.into()),
            "tcp6" => (Protocol::Tcp, IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED)),
            "udp6" => (Protocol::Udp, IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED)),
            other => return Err(format!("unsupported proto: {other:?}")),
        };
        let address = |text: &str, any: IpAddr, what: &str| match text {
            "" => Ok(any),
            text => text.parse().map_err(|_| format!("bad {what}: {text:?}")),
        };
        let port = |port, what: &str| if port == 0 { Err(format!("bad {what}: 0")) } else { Ok(port) };
        let listen = address(&self.parent_ip, family, "parentIP")?;
        let target = address(&self.child_ip, Ipv4Addr::UNSPECIFIED.into(), "childIP")?;
        Ok((
            protocol,
            SocketAddr::new(listen, port(self.parent_port, "parentPort")?),
            SocketAddr::new(target, port(self.child_port, "childPort")?),
        ))
    }
}

impl From<PublishedPort> for PortStatus {
    fn from(port: PublishedPort) -> Self {
        let proto = port.protocol.to_string().to_lowercase();
        Self {
            id: port.id,
            spec: PortSpec {
                proto: if port.listen.is_ipv6() { format!("{proto}6") } else { proto },
                parent_ip: port.listen.ip().to_string(),
                parent_port: port.listen.port(),
                child_ip: port.target.ip().to_string(),
                child_port: port.target.port(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<(Protocol, SocketAddr, SocketAddr), String> {
        serde_json::from_str::<PortSpec>(json).unwrap().parse()
    }

    #[test]
    fn missing_addresses_mean_any() {
        let (protocol, listen, target) = spec(r#"{"proto":"tcp","parentPort":8080,"childPort":80}"#).unwrap();
        assert_eq!(
            (protocol, listen.to_string(), target.to_string()),
            (Protocol::Tcp, "0.0.0.0:8080".into(), "0.0.0.0:80".into())
        );
        let json = r#"{"proto":"udp","parentIP":"127.0.0.1","parentPort":53,"childIP":"10.42.0.7","childPort":53}"#;
        assert_eq!(spec(json).unwrap().2.to_string(), "10.42.0.7:53");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (json, needle) in [
            (r#"{"proto":"sctp","parentPort":1,"childPort":1}"#, "sctp"),
            (r#"{"proto":"tcp","parentIP":"here","parentPort":1,"childPort":1}"#, "parentIP"),
            (r#"{"proto":"tcp","parentPort":1,"childPort":0}"#, "childPort"),
        ] {
            let error = spec(json).unwrap_err();
            assert!(error.contains(needle), "{error}");
        }
    }

    #[test]
    fn a_status_has_rootlesskits_names() {
        let port = PublishedPort {
            id: 7,
            protocol: Protocol::Tcp,
            listen: "0.0.0.0:8080".parse().unwrap(),
            target: "10.42.0.7:80".parse().unwrap(),
        };
        assert_eq!(
            serde_json::to_string(&PortStatus::from(port)).unwrap(),
            r#"{"id":7,"spec":{"proto":"tcp","parentIP":"0.0.0.0","parentPort":8080,"childIP":"10.42.0.7","childPort":80}}"#
        );
    }
}
