//! The ruleset of all services: how a packet finds its endpoint.
//!
//! A packet's address, protocol and port are looked up once, in a verdict map, whatever the number of services; what
//! is found is a chain of that service, which rewrites the destination to one of its endpoints by chance. Rejecting
//! happens in filter chains, where packets of services without endpoints still have their original destination.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use k3s_cri::Protocol;

use super::host_port::HostPort;
use super::port::ServicePort;
use crate::nft::expression::{ROUTE_LOCAL, key};
use crate::nft::{Base, Chain, ChainType, Data, Expression, Field, Hook, Map, Register, Rule, Ruleset, Type, Verdict};

/// What rules depend on besides services.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) cluster_cidr: Ipv4Net,
    /// This node's part of it.
    pub(crate) pod_cidr: Ipv4Net,
    /// Local addresses node ports answer on; empty means all.
    pub(crate) node_port_addresses: Vec<Ipv4Net>,
    /// Frames between two ports of the bridge pass these chains.
    pub(crate) bridged_traffic_is_seen: bool,
}

/// kube-proxy's mark on connections whose source is to be masqueraded.
pub(super) const MASQUERADE_MARK: u32 = 0x4000;
/// ct state bits: established, related; new.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const NEW: u32 = 8;
/// IPS_DST_NAT
const DESTINATION_REWRITTEN: u32 = 1 << 5;

const SERVICE_IPS: &str = "service-ips";
const NODE_PORTS: &str = "service-nodeports";
const HOST_PORTS: &str = "hostports";
const HOST_IP_PORTS: &str = "hostip-ports";
const REFUSED_IPS: &str = "no-endpoint-services";
const REFUSED_NODE_PORTS: &str = "no-endpoint-nodeports";
const CLUSTER_IPS: &str = "cluster-ips";
const HAIRPINS: &str = "hairpins";

const SERVICES: &str = "services";
const NODE_PORT_SERVICES: &str = "nodeports";
const REFUSE: &str = "refuse-services";
const REJECT: &str = "reject";

const ADDRESS: &[Type] = &[Type::Ipv4Address];
const ADDRESS_PAIR: &[Type] = &[Type::Ipv4Address, Type::Ipv4Address];
const ADDRESS_PROTOCOL_PORT: &[Type] = &[Type::Ipv4Address, Type::Protocol, Type::Service];
const PROTOCOL_PORT: &[Type] = &[Type::Protocol, Type::Service];
const ADDRESS_PORT: &[Type] = &[Type::Ipv4Address, Type::Service];

/// The ruleset for these services and host ports.
pub(crate) fn ruleset(around: &Surroundings, services: &[ServicePort], host_ports: &[HostPort]) -> Ruleset {
    let mut building = Building { around, ruleset: frame(around) };
    for service in services {
        building.service(service);
    }
    for port in host_ports {
        building.host_port(port);
    }
    building.ruleset
}

/// Everything that does not depend on services.
fn frame(around: &Surroundings) -> Ruleset {
    use ChainType::{Filter, Nat};
    let mut chains = BTreeMap::new();
    let mut base = |name: &str, kind, hook, priority, rules| {
        chains.insert(name.to_owned(), Chain { base: Some(Base { kind, hook, priority }), rules });
    };
    let to = |chain: &str| Expression::Verdict(Verdict::Jump(chain.to_owned()));
    let of_new =
        || [&Expression::masked(Field::ConnectionState, NEW.to_ne_bytes(), false, [0; 4])[..], &[to(REFUSE)]].concat();
    base("prerouting", Nat, Hook::Prerouting, -100, vec![vec![to(SERVICES)]]);
    base("output", Nat, Hook::Output, -100, vec![vec![to(SERVICES)]]);
    base("postrouting", Nat, Hook::Postrouting, 100, postrouting(around));
    base("filter-input", Filter, Hook::Input, 0, vec![guard_loopback(), of_new()]);
    base("filter-forward", Filter, Hook::Forward, 0, vec![of_new()]);
    base("filter-output", Filter, Hook::Output, 0, vec![of_new()]);

    let mut inner = |name: &str, rules| {
        chains.insert(name.to_owned(), Chain { base: None, rules });
    };
    inner(SERVICES, dispatch(around));
    inner(NODE_PORT_SERVICES, vec![by_port(Expression::VerdictOf { map: NODE_PORTS, key: Register::R0 })]);
    inner(
        REFUSE,
        vec![
            by_address(Expression::VerdictOf { map: REFUSED_IPS, key: Register::R0 }),
            [to_this_node(), by_port(Expression::VerdictOf { map: REFUSED_NODE_PORTS, key: Register::R0 })].concat(),
            // No service has that port.
            vec![
                Expression::Load { field: Field::DestinationAddress, to: Register::R0 },
                Expression::Contains { set: CLUSTER_IPS, key: Register::R0 },
                Expression::Verdict(Verdict::Goto(REJECT.to_owned())),
            ],
        ],
    );
    let tcp = Expression::field(Field::Protocol, true, [number(Protocol::Tcp)]);
    inner(REJECT, vec![[&tcp[..], &[Expression::RejectReset]].concat(), vec![Expression::RejectPortUnreachable]]);

    let maps = BTreeMap::from([
        (SERVICE_IPS, Map::verdicts(ADDRESS_PROTOCOL_PORT)),
        (NODE_PORTS, Map::verdicts(PROTOCOL_PORT)),
        (HOST_PORTS, Map::values(PROTOCOL_PORT, ADDRESS_PORT)),
        (HOST_IP_PORTS, Map::values(ADDRESS_PROTOCOL_PORT, ADDRESS_PORT)),
        (REFUSED_IPS, Map::verdicts(ADDRESS_PROTOCOL_PORT)),
        (REFUSED_NODE_PORTS, Map::verdicts(PROTOCOL_PORT)),
        (CLUSTER_IPS, Map::set(ADDRESS)),
        (HAIRPINS, Map::set(ADDRESS_PAIR)),
    ]);
    Ruleset { chains, maps }
}

/// Looks a new connection's destination up: cluster IPs, then node ports, then host ports.
fn dispatch(around: &Surroundings) -> Vec<Rule> {
    let node_ports = Expression::Verdict(Verdict::Jump(NODE_PORT_SERVICES.to_owned()));
    let rewrite = |map| {
        let load = Expression::LoadOf { map, key: Register::R0, to: Register::R0 };
        [load, Expression::DestinationNat { address: Register::R0, port: Register::R1 }]
    };
    let mut rules = vec![by_address(Expression::VerdictOf { map: SERVICE_IPS, key: Register::R0 })];
    if around.node_port_addresses.is_empty() {
        rules.push([to_this_node(), vec![node_ports.clone()]].concat());
    }
    for cidr in &around.node_port_addresses {
        rules.push([to_this_node(), within(Field::DestinationAddress, *cidr, true), vec![node_ports.clone()]].concat());
    }
    let [load, nat] = rewrite(HOST_IP_PORTS);
    rules.push([by_address(load), vec![nat]].concat());
    let [load, nat] = rewrite(HOST_PORTS);
    rules.push([to_this_node(), by_port(load), vec![nat]].concat());
    rules
}

fn postrouting(around: &Surroundings) -> Vec<Rule> {
    let masquerade = || Expression::Masquerade { random_port: true };
    let mark = MASQUERADE_MARK.to_ne_bytes();
    let not_loopback = || Expression::field(Field::OutputInterface, false, interface("lo"));
    let rewritten =
        || Expression::masked(Field::ConnectionStatus, DESTINATION_REWRITTEN.to_ne_bytes(), false, [0; 4]).to_vec();
    let from = |cidr, inside| within(Field::SourceAddress, cidr, inside);
    let to = |cidr, inside| within(Field::DestinationAddress, cidr, inside);
    let mut rules = vec![
        // The mark goes: the packet may come by again inside another one.
        [
            Expression::masked(Field::Mark, mark, true, mark).to_vec(),
            vec![
                Expression::Load { field: Field::Mark, to: Register::R0 },
                Expression::Bitwise {
                    from: Register::R0,
                    to: Register::R0,
                    mask: (!MASQUERADE_MARK).to_ne_bytes(),
                    xor: [0; 4],
                },
                Expression::SetMark { from: Register::R0 },
                masquerade(),
            ],
        ]
        .concat(),
        // A pod that reaches itself through a service would answer itself without us.
        [
            rewritten(),
            vec![
                Expression::Load { field: Field::SourceAddress, to: Register::R0 },
                Expression::Load { field: Field::DestinationAddress, to: Register::R1 },
                Expression::Contains { set: HAIRPINS, key: Register::R0 },
                masquerade(),
            ],
        ]
        .concat(),
        // From the node's loopback to a pod: 127.0.0.1 means something else there.
        [rewritten(), from(LOOPBACK, true), not_loopback().to_vec(), vec![masquerade()]].concat(),
    ];
    if !around.bridged_traffic_is_seen {
        // Two pods on the same bridge: the answer would go straight back, from the wrong address.
        rules.push([rewritten(), from(around.pod_cidr, true), to(around.pod_cidr, true), vec![masquerade()]].concat());
    }
    rules.push(
        [
            from(around.cluster_cidr, true),
            to(around.cluster_cidr, false),
            to(MULTICAST, false),
            not_loopback().to_vec(),
            vec![masquerade()],
        ]
        .concat(),
    );
    rules
}

const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const MULTICAST: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);

/// `route_localnet` (for node ports on 127.0.0.1) must not let others reach what listens on the node's loopback.
fn guard_loopback() -> Rule {
    [
        Expression::field(Field::InputInterface, false, interface("lo")).to_vec(),
        within(Field::DestinationAddress, LOOPBACK, true),
        Expression::masked(Field::ConnectionState, ESTABLISHED_OR_RELATED.to_ne_bytes(), true, [0; 4]).to_vec(),
        Expression::masked(Field::ConnectionStatus, DESTINATION_REWRITTEN.to_ne_bytes(), true, [0; 4]).to_vec(),
        vec![Expression::Verdict(Verdict::Drop)],
    ]
    .concat()
}

/// A ruleset being built.
struct Building<'a> {
    around: &'a Surroundings,
    ruleset: Ruleset,
}

impl Building<'_> {
    fn service(&mut self, service: &ServicePort) {
        let protocol = number(service.protocol);
        let to = |address| key::address_protocol_port(address, protocol, service.port);
        self.insert(CLUSTER_IPS, key::address(service.cluster_ip), None);
        self.hairpins(service);

        let internal = to(service.cluster_ip);
        if service.internal().is_empty() {
            self.insert(REFUSED_IPS, internal, Some(Data::Verdict(without_endpoints(service))));
        } else {
            let chain = if service.internal_local { self.local(service) } else { self.cluster(service) };
            self.insert(SERVICE_IPS, internal, goto(&chain));
        }

        let outside =
            !service.external_ips.is_empty() || !service.ingress_ips.is_empty() || service.node_port.is_some();
        if !outside {
            return;
        }
        let node_port = service.node_port.map(|port| key::protocol_port(protocol, port));
        let addresses: BTreeSet<_> = service.external_ips.union(&service.ingress_ips).copied().collect();
        if service.external().is_empty() {
            for address in &addresses {
                self.insert(REFUSED_IPS, to(*address), Some(Data::Verdict(without_endpoints(service))));
            }
            if let Some(port) = &node_port {
                self.insert(REFUSED_NODE_PORTS, port.clone(), Some(Data::Verdict(without_endpoints(service))));
            }
        }
        // There may be none for those from outside but some for those from inside.
        if service.endpoints.cluster.is_empty() {
            return;
        }
        let chain = self.external(service);
        for address in &service.external_ips {
            self.insert(SERVICE_IPS, to(*address), goto(&chain));
        }
        let guarded = if service.source_ranges.is_empty() { chain.clone() } else { self.firewall(service, &chain) };
        for address in &service.ingress_ips {
            self.insert(SERVICE_IPS, to(*address), goto(&guarded));
        }
        if let Some(port) = node_port {
            self.insert(NODE_PORTS, port, goto(&chain));
        }
    }

    /// The chain that spreads connections over all endpoints of the cluster.
    fn cluster(&mut self, service: &ServicePort) -> String {
        self.chain("svc", service, |building| {
            // Who comes to the cluster IP from elsewhere could not take the answer of another node's pod.
            let mark = [
                Expression::field(Field::DestinationAddress, true, service.cluster_ip.octets()).to_vec(),
                within(Field::SourceAddress, building.around.cluster_cidr, false),
                mark_for_masquerade(),
            ];
            vec![mark.concat(), balance(service, &service.endpoints.cluster)]
        })
    }

    /// The chain that spreads connections over the endpoints of this node.
    fn local(&mut self, service: &ServicePort) -> String {
        self.chain("local", service, |_| vec![balance(service, &service.endpoints.local)])
    }

    /// The chain of connections to external addresses and node ports.
    fn external(&mut self, service: &ServicePort) -> String {
        let cluster = self.cluster(service);
        let go = |chain: &str| Expression::Verdict(Verdict::Goto(chain.to_owned()));
        if !service.external_local {
            return self.chain("ext", service, |_| vec![mark_for_masquerade(), vec![go(&cluster)]]);
        }
        let local = (!service.endpoints.local.is_empty()).then(|| self.local(service));
        self.chain("ext", service, |building| {
            // Pods and the node itself are inside, whichever address they use.
            let from_pods = within(Field::SourceAddress, building.around.cluster_cidr, true);
            let from_node = Expression::field(Field::SourceType, true, ROUTE_LOCAL).to_vec();
            let mut rules = vec![
                [from_pods, vec![go(&cluster)]].concat(),
                [from_node, mark_for_masquerade(), vec![go(&cluster)]].concat(),
            ];
            rules.extend(local.map(|local| vec![go(&local)]));
            rules
        })
    }

    /// The chain that lets only a load balancer's source ranges through.
    fn firewall(&mut self, service: &ServicePort, onward: &str) -> String {
        self.chain("fw", service, |_| {
            let go = Expression::Verdict(Verdict::Goto(onward.to_owned()));
            let allow = |range: &Ipv4Net| [within(Field::SourceAddress, *range, true), vec![go.clone()]].concat();
            let mut rules: Vec<_> = service.source_ranges.iter().map(allow).collect();
            rules.push(vec![Expression::Verdict(Verdict::Drop)]);
            rules
        })
    }

    /// Adds a chain of the service, unless it is there.
    fn chain(&mut self, what: &str, service: &ServicePort, rules: impl FnOnce(&Self) -> Vec<Rule>) -> String {
        let name = chain_name(what, &service.id);
        if !self.ruleset.chains.contains_key(&name) {
            let rules = rules(self);
            self.ruleset.chains.insert(name.clone(), Chain { base: None, rules });
        }
        name
    }

    fn hairpins(&mut self, service: &ServicePort) {
        for endpoint in &service.endpoints.local {
            self.insert(HAIRPINS, [endpoint.ip().octets(); 2].concat(), None);
        }
    }

    fn host_port(&mut self, port: &HostPort) {
        let protocol = number(port.protocol);
        let target = Some(Data::Value(key::socket(port.target)));
        self.insert(HAIRPINS, [port.target.ip().octets(); 2].concat(), None);
        if port.host_ip.is_unspecified() {
            self.insert(HOST_PORTS, key::protocol_port(protocol, port.port), target);
        } else {
            let key = key::address_protocol_port(port.host_ip, protocol, port.port);
            self.insert(HOST_IP_PORTS, key, target);
        }
    }

    /// The first to ask for a key has it: two services with one external IP and port, say.
    fn insert(&mut self, map: &'static str, key: Vec<u8>, data: Option<Data>) {
        if let Some(map) = self.ruleset.maps.get_mut(map) {
            map.elements.entry(key).or_insert(data);
        }
    }
}

/// What becomes of a packet for which its policy leaves no endpoint. As kube-proxy: rejected if there is none at all,
/// dropped if only this node has none (a load balancer may still be finding out).
fn without_endpoints(service: &ServicePort) -> Verdict {
    if service.endpoints.cluster.is_empty() { Verdict::Goto(REJECT.to_owned()) } else { Verdict::Drop }
}

/// Rewrites the destination to one of the endpoints.
fn balance(service: &ServicePort, endpoints: &BTreeSet<SocketAddrV4>) -> Rule {
    let nat = Expression::DestinationNat { address: Register::R0, port: Register::R1 };
    let values: Vec<_> = endpoints.iter().map(|endpoint| key::socket(*endpoint)).collect();
    if let [only] = &values[..] {
        let (address, port) = only.split_at(4);
        return vec![
            Expression::Immediate { to: Register::R0, value: address.to_vec() },
            Expression::Immediate { to: Register::R1, value: port[..2].to_vec() },
            nat,
        ];
    }
    let modulus = values.len() as u32;
    let mut rule = if service.client_affinity {
        // The same client finds the same endpoint for as long as the endpoints stay.
        let seed = crate::fnv1a(service.id.as_bytes());
        let hash = Expression::Hash { key: Register::R1, length: 4, modulus, seed, to: Register::R0 };
        vec![Expression::Load { field: Field::SourceAddress, to: Register::R1 }, hash]
    } else {
        vec![Expression::Random { modulus, to: Register::R0 }]
    };
    rule.push(Expression::LoadOfNumber { values, value_type: ADDRESS_PORT, key: Register::R0, to: Register::R0 });
    rule.push(nat);
    rule
}

/// A chain's name: short enough for the kernel (127), unique by the hash, and readable.
fn chain_name(what: &str, id: &str) -> String {
    let readable = id.get(..80).unwrap_or(id);
    format!("{what}-{:08x}-{readable}", crate::fnv1a(id.as_bytes()))
}

fn goto(chain: &str) -> Option<Data> {
    Some(Data::Verdict(Verdict::Goto(chain.to_owned())))
}

fn mark_for_masquerade() -> Rule {
    let mark = MASQUERADE_MARK;
    vec![
        Expression::Load { field: Field::Mark, to: Register::R0 },
        Expression::Bitwise {
            from: Register::R0,
            to: Register::R0,
            mask: (!mark).to_ne_bytes(),
            xor: mark.to_ne_bytes(),
        },
        Expression::SetMark { from: Register::R0 },
    ]
}

/// Looks destination address, protocol and port up.
fn by_address(lookup: Expression) -> Rule {
    vec![
        Expression::Load { field: Field::DestinationAddress, to: Register::R0 },
        Expression::Load { field: Field::Protocol, to: Register::R1 },
        Expression::Load { field: Field::DestinationPort, to: Register::R2 },
        lookup,
    ]
}

/// Looks protocol and port up.
fn by_port(lookup: Expression) -> Rule {
    vec![
        Expression::Load { field: Field::Protocol, to: Register::R0 },
        Expression::Load { field: Field::DestinationPort, to: Register::R1 },
        lookup,
    ]
}

fn to_this_node() -> Rule {
    Expression::field(Field::DestinationType, true, ROUTE_LOCAL).to_vec()
}

pub(super) fn within(field: Field, cidr: Ipv4Net, inside: bool) -> Rule {
    Expression::masked(field, cidr.netmask().octets(), inside, cidr.network().octets()).to_vec()
}

/// The kernel compares all of an interface name's sixteen bytes.
fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The protocol's number in the IP header.
pub(crate) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
