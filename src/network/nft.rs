//! nftables by netlink: a ruleset as Rust values, its encoding, and the socket that commits it.
//!
//! [`Ruleset`] is one table. [`Ruleset::replacement`] makes a transaction that puts it in the place of whatever stood
//! there, [`Ruleset::update`] one that leads from another ruleset to it. A [`Socket`] sends a transaction to the kernel,
//! which takes all of it or nothing.
//!
//! Sources: `include/uapi/linux/netfilter/nf_tables.h`, `nfnetlink.h`,
//! <https://docs.kernel.org/networking/netlink_spec/nftables.html>.

mod attribute;
pub(crate) mod expression;
mod ruleset;
mod socket;
mod transaction;

pub(crate) use attribute::{Attributes, attributes};
pub(crate) use expression::{Data, Expression, Field, Register, Verdict};
pub(crate) use ruleset::{Base, Chain, ChainType, Hook, Map, Rule, Ruleset, Type};
pub(crate) use socket::{Socket, error, message, messages};
pub(crate) use transaction::Transaction;
