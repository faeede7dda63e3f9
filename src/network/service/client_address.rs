//! The way back for answers to clients outside, whose address a relay keeps as the source of its connection.
//!
//! Where k3s lives in a network namespace of its own, ports of the host are relayed inside. The relay connects with the
//! client's address (`IP_TRANSPARENT`), so answers are for an address that is not this node's, and would leave by the
//! default route. Connection tracking remembers the relay's mark, which does not come back from a pod by itself; what
//! answers such a connection gets a mark of its own, and a routing rule has it delivered here.
//!
//! Source: <https://docs.kernel.org/networking/tproxy.html>

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::proxy::blocking;
use super::rules::{MASQUERADE_MARK, within};
use crate::Error;
use crate::link::Links;
use crate::nft::{Base, Chain, ChainType, Expression, Field, Hook, Register, Rule, Ruleset, Socket, Transaction};

const TABLE: &str = "k3s-clients";
/// The mark of answers, by which they are routed. The relay's own connections must not have it.
const ANSWER_MARK: u32 = 0x0020_0000;
/// The routing table in which everything is local.
const ROUTES: u32 = 1715;
/// Before the main table's rule (32766), after the one for addresses of this node (0).
const PRIORITY: u32 = 1715;

/// IP_CT_DIR_ORIGINAL and IP_CT_DIR_REPLY
const ORIGINAL: [u8; 1] = [0];
const REPLY: [u8; 1] = [1];

/// Sets it up, or finds it in place. `mark` is the bit that the relay's connections have.
pub(crate) async fn prepare(links: &Links, mark: u32, pod_cidr: Ipv4Net) -> Result<(), Error> {
    blocking(move || Socket::open()?.commit(&ruleset(mark, pod_cidr).replacement(TABLE))).await?;
    links.deliver_marked(ANSWER_MARK, ROUTES, PRIORITY).await
}

/// Takes the table back. The rule does nothing without it.
pub(crate) async fn remove() -> Result<(), Error> {
    blocking(|| Socket::open()?.commit(&Transaction::removal(TABLE))).await
}

fn ruleset(mark: u32, pod_cidr: Ipv4Net) -> Ruleset {
    let bits = mark.to_ne_bytes();
    let load = |field| Expression::Load { field, to: Register::R0 };
    let has = |field| Expression::masked(field, bits, true, bits).to_vec();
    let direction = |of: [u8; 1]| Expression::field(Field::ConnectionDirection, true, of).to_vec();
    let answer: Rule = [
        direction(REPLY),
        has(Field::ConnectionMark),
        vec![
            Expression::Immediate { to: Register::R0, value: ANSWER_MARK.to_ne_bytes().to_vec() },
            Expression::SetMark { from: Register::R0 },
        ],
    ]
    .concat();
    let remember: Rule = [
        direction(ORIGINAL),
        has(Field::Mark),
        vec![
            Expression::Immediate { to: Register::R0, value: bits.to_vec() },
            Expression::SetConnectionMark { from: Register::R0 },
        ],
    ]
    .concat();
    // A node port's traffic is masqueraded so that answers pass this node. To a pod that is on it they do anyway.
    let keep: Rule = [
        has(Field::Mark),
        within(Field::DestinationAddress, pod_cidr, true),
        vec![
            load(Field::Mark),
            Expression::Bitwise {
                from: Register::R0,
                to: Register::R0,
                mask: (!MASQUERADE_MARK).to_ne_bytes(),
                xor: [0; 4],
            },
            Expression::SetMark { from: Register::R0 },
        ],
    ]
    .concat();
    let chain = |kind, hook, priority, rules| Chain { base: Some(Base { kind, hook, priority }), rules };
    // The mark is known before the routing decision (mangle); a chain of type route has it made again.
    let (mangle, before_masquerade) = (-150, 99);
    let chains = BTreeMap::from([
        ("arriving".to_owned(), chain(ChainType::Filter, Hook::Prerouting, mangle, vec![answer.clone()])),
        ("own".to_owned(), chain(ChainType::Route, Hook::Output, mangle, vec![answer, remember])),
        ("leaving".to_owned(), chain(ChainType::Filter, Hook::Postrouting, before_masquerade, vec![keep])),
    ]);
    Ruleset { chains, maps: BTreeMap::new() }
}
