//! A table as a value, and the transactions that lead to it.

use std::collections::BTreeMap;

use super::expression::{Data, Expression};
use super::transaction::Transaction;

/// One step after the other.
pub(crate) type Rule = Vec<Expression>;

/// One nftables table of family `ip`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: BTreeMap<String, Chain>,
    pub(crate) maps: BTreeMap<&'static str, Map>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Where packets enter; `None` for a chain that others lead to.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// A chain's place in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: ChainType,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainType {
    Filter,
    Nat,
    /// Has a packet of this node routed again when its mark has changed.
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A set (its elements have no data) or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) key: &'static [Type],
    pub(crate) value: MapValue,
    pub(crate) elements: BTreeMap<Vec<u8>, Option<Data>>,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapValue {
    Nothing,
    Verdict,
    Concatenation(&'static [Type]),
}

/// Types by nft's own names; the kernel needs their lengths, `nft list` their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Integer,
    Ipv4Address,
    Protocol,
    Service,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::Ipv4Address => 7,
            Self::Protocol => 12,
            Self::Service => 13,
        }
    }

    /// nft's number of a concatenation: six bits each.
    pub(super) fn concatenated(types: &[Self]) -> u32 {
        types.iter().fold(0, |number, part| number << 6 | part.number())
    }

    /// Bytes of a concatenation: each part fills a register.
    pub(super) fn length(types: &[Self]) -> u32 {
        4 * types.len() as u32
    }
}

impl Map {
    pub(crate) fn set(key: &'static [Type]) -> Self {
        Self { key, value: MapValue::Nothing, elements: BTreeMap::new() }
    }

    pub(crate) fn verdicts(key: &'static [Type]) -> Self {
        Self { key, value: MapValue::Verdict, elements: BTreeMap::new() }
    }

    pub(crate) fn values(key: &'static [Type], value: &'static [Type]) -> Self {
        Self { key, value: MapValue::Concatenation(value), elements: BTreeMap::new() }
    }
}

impl Ruleset {
    /// Puts this in the place of the table of that name, whatever it holds or if there is none.
    pub(crate) fn replacement(&self, table: &'static str) -> Transaction {
        let mut transaction = Transaction::removal(table);
        transaction.add_table();
        self.changes(&Self::default(), &mut transaction);
        transaction
    }

    /// Leads from `old`, which must be what the table holds, to this. Nothing to do makes an empty transaction.
    pub(crate) fn update(&self, old: &Self, table: &'static str) -> Transaction {
        let mut transaction = Transaction::new(table);
        self.changes(old, &mut transaction);
        transaction
    }

    /// In an order in which nothing refers to what is not there yet or not any more.
    fn changes(&self, old: &Self, to: &mut Transaction) {
        for (name, chain) in &self.chains {
            if !old.chains.contains_key(name) {
                to.add_chain(name, chain.base);
            }
        }
        for (name, map) in &self.maps {
            if !old.maps.contains_key(name) {
                to.add_map(name, map);
            }
        }
        for (name, map) in &old.maps {
            let now = self.maps.get(name).map(|map| &map.elements);
            let gone = map.elements.iter().filter(|(key, data)| now.and_then(|now| now.get(*key)) != Some(data));
            to.delete_elements(name, gone);
        }
        for (name, chain) in &old.chains {
            if self.chains.get(name) != Some(chain) && !chain.rules.is_empty() {
                to.flush_chain(name);
            }
        }
        for (name, chain) in &self.chains {
            if old.chains.get(name) != Some(chain) {
                for (index, rule) in chain.rules.iter().enumerate() {
                    to.add_rule(name, index, rule);
                }
            }
        }
        for (name, map) in &self.maps {
            let then = old.maps.get(name).map(|map| &map.elements);
            let new = map.elements.iter().filter(|(key, data)| then.and_then(|then| then.get(*key)) != Some(data));
            to.add_elements(name, new);
        }
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            to.delete_chain(name);
        }
    }
}
