//! The expressions rules are made of.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::attribute::Attributes;
use super::ruleset::Type;

/// A 32-bit register; longer values take the following ones, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(u8);

impl Register {
    pub(crate) const R0: Self = Self(0);
    pub(crate) const R1: Self = Self(1);
    pub(crate) const R2: Self = Self(2);

    /// NFT_REG32_00 and following.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// NFT_REG_VERDICT
const VERDICT_REGISTER: u32 = 0;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Jump(String),
    Goto(String),
}

/// A value of a register, a set element or a map entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// A part of a packet or of what the kernel knows about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    SourceAddress,
    DestinationAddress,
    /// Of TCP, UDP and SCTP alike; the rule must have looked at the protocol.
    DestinationPort,
    Protocol,
    Mark,
    InputInterface,
    OutputInterface,
    ConnectionState,
    ConnectionStatus,
    ConnectionMark,
    /// One byte: 0 for packets from who opened the connection, 1 for answers.
    ConnectionDirection,
    /// What kind of route leads to the packet's destination or source (`RTN_LOCAL`, …).
    DestinationType,
    SourceType,
}

/// One step of a rule. A rule ends at the first that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    Load {
        field: Field,
        to: Register,
    },
    /// `to := (from & mask) ^ xor`, native byte order for marks and states.
    Bitwise {
        from: Register,
        to: Register,
        mask: [u8; 4],
        xor: [u8; 4],
    },
    /// Holds if the register is (or is not) the value.
    Compare {
        register: Register,
        equal: bool,
        value: Vec<u8>,
    },
    SetMark {
        from: Register,
    },
    SetConnectionMark {
        from: Register,
    },
    Immediate {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// Holds if the key is in the set.
    Contains {
        set: &'static str,
        key: Register,
    },
    /// Holds if the key is in the map; takes the verdict that is there.
    VerdictOf {
        map: &'static str,
        key: Register,
    },
    /// Holds if the key is in the map; loads the value.
    LoadOf {
        map: &'static str,
        key: Register,
        to: Register,
    },
    /// The same with a map that belongs to the rule. Keys are numbers from 0 on.
    LoadOfNumber {
        values: Vec<Vec<u8>>,
        value_type: &'static [Type],
        key: Register,
        to: Register,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
        to: Register,
    },
    /// A number below `modulus` that is always the same for the same key of `length` bytes.
    Hash {
        key: Register,
        length: u32,
        modulus: u32,
        seed: u32,
        to: Register,
    },
    /// Rewrites the connection's destination to the address in a register and the port in another.
    DestinationNat {
        address: Register,
        port: Register,
    },
    /// Rewrites the connection's source to the address of the interface it leaves by.
    Masquerade {
        random_port: bool,
    },
    RejectPortUnreachable,
    RejectReset,
}

/// RTN_LOCAL as a register holds it.
pub(crate) const ROUTE_LOCAL: [u8; 4] = 2u32.to_ne_bytes();

const META: &str = "meta";
const META_MARK: u32 = 3;
const CT: &str = "ct";
const CT_MARK: u32 = 3;
const FIB: &str = "fib";
const PAYLOAD: &str = "payload";

impl Expression {
    /// The value of the field in R0 is (not) this.
    pub(crate) fn field(field: Field, equal: bool, value: impl Into<Vec<u8>>) -> [Self; 2] {
        [Self::Load { field, to: Register::R0 }, Self::Compare { register: Register::R0, equal, value: value.into() }]
    }

    /// The bits of the field under the mask are (not) this.
    pub(crate) fn masked(field: Field, mask: [u8; 4], equal: bool, value: [u8; 4]) -> [Self; 3] {
        [
            Self::Load { field, to: Register::R0 },
            Self::Bitwise { from: Register::R0, to: Register::R0, mask, xor: [0; 4] },
            Self::Compare { register: Register::R0, equal, value: value.to_vec() },
        ]
    }

    /// Writes the expression as an element of a rule's list. `anonymous` says the id of a map of the rule's own.
    pub(super) fn write(&self, list: &mut Attributes, anonymous: Option<u32>) {
        match self {
            Self::Load { field, to } => load(*field, *to, list),
            Self::Bitwise { from, to, mask, xor } => element(list, "bitwise", |a| {
                a.u32(1, from.number()).u32(2, to.number()).u32(3, 4);
                value(a, 4, mask);
                value(a, 5, xor);
            }),
            Self::Compare { register, equal, value: data } => element(list, "cmp", |a| {
                a.u32(1, register.number()).u32(2, u32::from(!equal));
                value(a, 3, data);
            }),
            Self::SetMark { from } => element(list, META, |a| {
                a.u32(2, META_MARK).u32(3, from.number());
            }),
            Self::SetConnectionMark { from } => element(list, CT, |a| {
                a.u32(2, CT_MARK).u32(4, from.number());
            }),
            Self::Immediate { to, value: data } => element(list, "immediate", |a| {
                a.u32(1, to.number());
                value(a, 2, data);
            }),
            Self::Verdict(verdict) => element(list, "immediate", |a| {
                a.u32(1, VERDICT_REGISTER).nested(2, |data| verdict.write(data));
            }),
            Self::Contains { set, key } => element(list, "lookup", |a| {
                a.string(1, set).u32(2, key.number());
            }),
            Self::VerdictOf { map, key } => element(list, "lookup", |a| {
                a.string(1, map).u32(2, key.number()).u32(3, VERDICT_REGISTER);
            }),
            Self::LoadOf { map, key, to } => element(list, "lookup", |a| {
                a.string(1, map).u32(2, key.number()).u32(3, to.number());
            }),
            Self::LoadOfNumber { key, to, .. } => element(list, "lookup", |a| {
                a.string(1, ANONYMOUS_MAP).u32(2, key.number()).u32(3, to.number()).u32(4, anonymous.unwrap_or(0));
            }),
            Self::Random { modulus, to } => element(list, "numgen", |a| {
                a.u32(1, to.number()).u32(2, *modulus).u32(3, 1).u32(4, 0);
            }),
            Self::Hash { key, length, modulus, seed, to } => element(list, "hash", |a| {
                a.u32(1, key.number()).u32(2, to.number()).u32(3, *length).u32(4, *modulus).u32(5, *seed).u32(7, 0);
            }),
            Self::DestinationNat { address, port } => element(list, "nat", |a| {
                let (dnat, ipv4) = (1, 2);
                a.u32(1, dnat).u32(2, ipv4).u32(3, address.number()).u32(5, port.number());
            }),
            Self::Masquerade { random_port } => element(list, "masq", |a| {
                // NF_NAT_RANGE_PROTO_RANDOM_FULLY: two nodes' pods behind one address don't fight for a port.
                a.u32(1, if *random_port { 1 << 4 } else { 0 });
            }),
            Self::RejectPortUnreachable => element(list, "reject", |a| {
                a.u32(1, 0).bytes(2, &[3]);
            }),
            Self::RejectReset => element(list, "reject", |a| {
                a.u32(1, 1).bytes(2, &[0]);
            }),
        }
    }
}

/// The kernel puts a number in the place of `%d`.
pub(super) const ANONYMOUS_MAP: &str = "__map%d";

fn load(field: Field, to: Register, list: &mut Attributes) {
    let meta = |key| {
        move |a: &mut Attributes| {
            a.u32(1, to.number()).u32(2, key);
        }
    };
    let payload = |base, offset, length| {
        move |a: &mut Attributes| {
            a.u32(1, to.number()).u32(2, base).u32(3, offset).u32(4, length);
        }
    };
    let fib = |flags| {
        move |a: &mut Attributes| {
            let address_type = 3;
            a.u32(1, to.number()).u32(2, address_type).u32(3, flags);
        }
    };
    let (network_header, transport_header) = (1, 2);
    match field {
        Field::SourceAddress => element(list, PAYLOAD, payload(network_header, 12, 4)),
        Field::DestinationAddress => element(list, PAYLOAD, payload(network_header, 16, 4)),
        Field::DestinationPort => element(list, PAYLOAD, payload(transport_header, 2, 2)),
        Field::Protocol => element(list, META, meta(16)),
        Field::Mark => element(list, META, meta(META_MARK)),
        Field::InputInterface => element(list, META, meta(6)),
        Field::OutputInterface => element(list, META, meta(7)),
        Field::ConnectionState => element(list, CT, meta(0)),
        Field::ConnectionStatus => element(list, CT, meta(2)),
        Field::ConnectionMark => element(list, CT, meta(CT_MARK)),
        Field::ConnectionDirection => element(list, CT, meta(1)),
        Field::SourceType => element(list, FIB, fib(1)),
        Field::DestinationType => element(list, FIB, fib(2)),
    }
}

fn element(list: &mut Attributes, name: &str, write: impl FnOnce(&mut Attributes)) {
    list.nested(1, |expression| {
        expression.string(1, name).nested(2, write);
    });
}

fn value(attributes: &mut Attributes, kind: u16, data: &[u8]) {
    attributes.nested(kind, |a| {
        a.bytes(1, data);
    });
}

impl Verdict {
    fn write(&self, data: &mut Attributes) {
        let (code, chain): (i32, _) = match self {
            Self::Drop => (0, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        data.nested(2, |a| {
            a.bytes(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                a.string(2, chain);
            }
        });
    }
}

impl Data {
    pub(super) fn write(&self, data: &mut Attributes) {
        match self {
            Self::Value(bytes) => {
                data.bytes(1, bytes);
            }
            Self::Verdict(verdict) => verdict.write(data),
        }
    }
}

/// Keys and values of sets are concatenations; each part fills whole registers.
pub(crate) mod key {
    use super::{Ipv4Addr, SocketAddrV4};

    pub(crate) fn address(address: Ipv4Addr) -> Vec<u8> {
        address.octets().to_vec()
    }

    pub(crate) fn protocol_port(protocol: u8, port: u16) -> Vec<u8> {
        let port = port.to_be_bytes();
        vec![protocol, 0, 0, 0, port[0], port[1], 0, 0]
    }

    pub(crate) fn address_protocol_port(to: Ipv4Addr, protocol: u8, port: u16) -> Vec<u8> {
        [address(to), protocol_port(protocol, port)].concat()
    }

    pub(crate) fn socket(socket: SocketAddrV4) -> Vec<u8> {
        let port = socket.port().to_be_bytes();
        [&socket.ip().octets()[..], &[port[0], port[1], 0, 0]].concat()
    }
}

/// The numbers from 0 on as a map's keys.
pub(super) fn numbered(values: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Option<Data>> {
    let entries = values.iter().enumerate();
    entries.map(|(n, value)| ((n as u32).to_ne_bytes().to_vec(), Some(Data::Value(value.clone())))).collect()
}
