//! Forgets UDP connections that lead to endpoints which are gone.
//!
//! A UDP client that keeps its port keeps its connection in the kernel's eyes, and with it the endpoint that was chosen
//! first, or none if there was none. TCP needs nothing: its connections end.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use k3s_cri::Protocol;

use super::host_port::HostPort;
use super::port::ServicePort;
use crate::Error;
use crate::nft::{Attributes, Socket, attributes, error, message, messages};

const NFNL_SUBSYS_CTNETLINK: u8 = 1;
const CTNL_MSG_CT_GET: u8 = 1;
const CTNL_MSG_CT_DELETE: u8 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFPROTO_IPV4: u8 = 2;
const IPPROTO_UDP: u8 = 17;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;

/// Where UDP traffic to an address and port goes now; no address means any of the node's.
pub(crate) type Targets = BTreeMap<(Option<Ipv4Addr>, u16), BTreeSet<SocketAddrV4>>;

/// The targets of all UDP services and host ports.
pub(crate) fn targets(services: &[ServicePort], host_ports: &[HostPort]) -> Targets {
    let mut targets = Targets::new();
    for service in services.iter().filter(|service| service.protocol == Protocol::Udp) {
        targets.insert((Some(service.cluster_ip), service.port), service.internal().clone());
        for address in service.external_ips.union(&service.ingress_ips) {
            targets.insert((Some(*address), service.port), service.endpoints.cluster.clone());
        }
        if let Some(port) = service.node_port {
            targets.insert((None, port), service.endpoints.cluster.clone());
        }
    }
    for port in host_ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let address = (!port.host_ip.is_unspecified()).then_some(port.host_ip);
        targets.entry((address, port.port)).or_default().insert(port.target);
    }
    targets
}

/// What is in one but not the same in the other, as it is now.
pub(crate) fn changed(old: &Targets, now: &Targets) -> Targets {
    let keys: BTreeSet<_> = old.keys().chain(now.keys()).filter(|key| old.get(key) != now.get(key)).collect();
    keys.into_iter().map(|key| (*key, now.get(key).cloned().unwrap_or_default())).collect()
}

/// Forgets connections to these addresses and ports that lead elsewhere than these targets. Gives how many.
pub(crate) fn forget(socket: &mut Socket, targets: &Targets) -> Result<usize, Error> {
    let stale: Vec<_> = flows(socket)?.into_iter().filter(|flow| flow.is_stale(targets)).collect();
    for flow in &stale {
        delete(socket, flow)?;
    }
    Ok(stale.len())
}

/// One UDP connection.
struct Flow {
    /// Where the client sends to.
    destination: SocketAddrV4,
    /// Who answers.
    replier: SocketAddrV4,
    /// The original tuple as the kernel wrote it: it names the connection.
    tuple: Vec<u8>,
}

impl Flow {
    fn is_stale(&self, targets: &Targets) -> bool {
        let (address, port) = (*self.destination.ip(), self.destination.port());
        if let Some(targets) = targets.get(&(Some(address), port)) {
            return !targets.contains(&self.replier);
        }
        // A node port of any address: a connection that is not rewritten may be one to another host's port.
        let rewritten = self.replier != self.destination;
        rewritten && targets.get(&(None, port)).is_some_and(|targets| !targets.contains(&self.replier))
    }
}

fn flows(socket: &mut Socket) -> Result<Vec<Flow>, Error> {
    let failed = |source| Error::Netfilter { doing: "list connections".into(), source };
    let sequence = socket.next();
    let mut request = Vec::new();
    let kind = u16::from_be_bytes([NFNL_SUBSYS_CTNETLINK, CTNL_MSG_CT_GET]);
    message(&mut request, kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, NFPROTO_IPV4, 0, &[]);
    socket.send(&request).map_err(failed)?;
    let mut flows = Vec::new();
    while let Some(datagram) = socket.receive(true).map_err(failed)? {
        for answer in messages(&datagram).filter(|answer| answer.sequence == sequence) {
            match answer.kind {
                NLMSG_DONE => return Ok(flows),
                NLMSG_ERROR => {
                    let code = error(&answer).map_or(nix::libc::EBADMSG, |(code, _)| code);
                    return Err(failed(io::Error::from_raw_os_error(code)));
                }
                _ => flows.extend(answer.body.get(4..).and_then(udp_flow)),
            }
        }
    }
    Ok(flows)
}

fn delete(socket: &mut Socket, flow: &Flow) -> Result<(), Error> {
    let failed = |source| Error::Netfilter { doing: format!("forget the connection to {}", flow.destination), source };
    let mut tuple = Attributes::default();
    tuple.nested(CTA_TUPLE_ORIG, |inner| inner.raw(&flow.tuple));
    let sequence = socket.next();
    let mut request = Vec::new();
    let kind = u16::from_be_bytes([NFNL_SUBSYS_CTNETLINK, CTNL_MSG_CT_DELETE]);
    message(&mut request, kind, NLM_F_REQUEST | NLM_F_ACK, sequence, NFPROTO_IPV4, 0, tuple.as_slice());
    socket.send(&request).map_err(failed)?;
    while let Some(datagram) = socket.receive(true).map_err(failed)? {
        let Some(answer) = messages(&datagram).find(|answer| answer.sequence == sequence) else { continue };
        return match error(&answer) {
            // It ended by itself meanwhile.
            Some((0 | nix::libc::ENOENT, _)) => Ok(()),
            Some((code, _)) => Err(failed(io::Error::from_raw_os_error(code))),
            None => Err(failed(io::ErrorKind::InvalidData.into())),
        };
    }
    Ok(())
}

fn udp_flow(body: &[u8]) -> Option<Flow> {
    let tuple = |kind| attributes(body).find(|(found, _)| *found == kind).map(|(_, value)| value);
    let original = tuple(CTA_TUPLE_ORIG)?;
    let (_, destination) = udp_ends(original)?;
    let (replier, _) = udp_ends(tuple(CTA_TUPLE_REPLY)?)?;
    Some(Flow { destination, replier, tuple: original.to_vec() })
}

/// Source and destination of a tuple, if it is UDP's.
fn udp_ends(tuple: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let part = |of, kind| attributes(of).find(|(found, _)| *found == kind).map(|(_, value)| value);
    let (ip, protocol) = (part(tuple, 1)?, part(tuple, 2)?);
    if part(protocol, 1)? != [IPPROTO_UDP] {
        return None;
    }
    let end = |kind, port_kind| {
        let address: [u8; 4] = part(ip, kind)?.try_into().ok()?;
        let port: [u8; 2] = part(protocol, port_kind)?.try_into().ok()?;
        Some(SocketAddrV4::new(address.into(), u16::from_be_bytes(port)))
    };
    Some((end(1, 2)?, end(2, 3)?))
}
