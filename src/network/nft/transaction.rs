//! Messages that the kernel takes all or none of.

use super::attribute::Attributes;
use super::expression::{ANONYMOUS_MAP, Data, Expression, numbered};
use super::ruleset::{Base, ChainType, Map, MapValue, Rule, Type};

const NEWTABLE: u8 = 0;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const DELCHAIN: u8 = 5;
const NEWRULE: u8 = 6;
const DELRULE: u8 = 8;
const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;
const DELSETELEM: u8 = 14;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const SET_ANONYMOUS: u32 = 1;
const SET_CONSTANT: u32 = 2;
const SET_MAP: u32 = 8;
/// NFT_DATA_VERDICT
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// How many bytes of elements go into one message: an attribute's length has 16 bits.
const ELEMENTS_LIMIT: usize = 32 * 1024;

/// One message of a transaction.
pub(crate) struct Change {
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) attributes: Attributes,
    /// What the message is about, for whoever reads that it was refused.
    pub(super) object: String,
    /// The message belongs to the next one: they can't be in different transactions.
    pub(super) tied: bool,
}

/// A transaction on one table of family `ip`.
pub(crate) struct Transaction {
    table: &'static str,
    pub(super) changes: Vec<Change>,
    /// Names the next map that belongs to a rule, within the transaction.
    next_map: u32,
}

impl Transaction {
    pub(super) fn new(table: &'static str) -> Self {
        Self { table, changes: Vec::new(), next_map: 1 }
    }

    /// Removes the table, which need not be there.
    pub(crate) fn removal(table: &'static str) -> Self {
        let mut transaction = Self::new(table);
        // Making what is there is no error; removing what is not is one.
        transaction.add_table();
        transaction.push(DELTABLE, 0, format!("removal of table {table}")).string(1, table);
        transaction
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn add_table(&mut self) {
        let table = self.table;
        self.push(NEWTABLE, NLM_F_CREATE, format!("table {table}")).string(1, table).u32(2, 0);
    }

    pub(super) fn add_chain(&mut self, name: &str, base: Option<Base>) {
        let table = self.table;
        let attributes = self.push(NEWCHAIN, NLM_F_CREATE, format!("chain {name}"));
        attributes.string(1, table).string(3, name);
        if let Some(base) = base {
            let accept = 1;
            attributes
                .nested(4, |hook| {
                    hook.u32(1, base.hook as u32).bytes(2, &base.priority.to_be_bytes());
                })
                .u32(5, accept)
                .string(
                    7,
                    match base.kind {
                        ChainType::Nat => "nat",
                        ChainType::Filter => "filter",
                        ChainType::Route => "route",
                    },
                );
        }
    }

    pub(super) fn delete_chain(&mut self, name: &str) {
        let table = self.table;
        self.push(DELCHAIN, 0, format!("removal of chain {name}")).string(1, table).string(3, name);
    }

    pub(super) fn flush_chain(&mut self, name: &str) {
        let table = self.table;
        self.push(DELRULE, 0, format!("removal of the rules of chain {name}")).string(1, table).string(2, name);
    }

    pub(super) fn add_rule(&mut self, chain: &str, index: usize, rule: &Rule) {
        let table = self.table;
        let anonymous = rule.iter().find_map(|expression| match expression {
            Expression::LoadOfNumber { values, value_type, .. } => Some((values, *value_type)),
            _ => None,
        });
        let id = anonymous.map(|(values, value_type)| self.add_numbered_map(chain, values, value_type));
        let attributes = self.push(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, format!("rule {index} of chain {chain}"));
        attributes.string(1, table).string(2, chain).nested(4, |list| {
            for expression in rule {
                expression.write(list, id);
            }
        });
    }

    /// A map of a rule's own, in the messages before the rule's.
    fn add_numbered_map(&mut self, chain: &str, values: &[Vec<u8>], value_type: &'static [Type]) -> u32 {
        let table = self.table;
        let id = self.next_map;
        self.next_map += 1;
        let attributes = self.push(NEWSET, NLM_F_CREATE, format!("endpoints map of chain {chain}"));
        attributes.string(1, table).string(2, ANONYMOUS_MAP).u32(3, SET_ANONYMOUS | SET_CONSTANT | SET_MAP);
        attributes.u32(4, Type::concatenated(&[Type::Integer])).u32(5, 4);
        attributes.u32(6, Type::concatenated(value_type)).u32(7, Type::length(value_type));
        attributes
            .nested(9, |description| {
                description.u32(1, values.len() as u32);
            })
            .u32(10, id)
            // For `nft list`: the keys' byte order (type 0, four bytes) is the host's (1).
            .bytes(13, &[[0, 4].as_slice(), &1u32.to_ne_bytes()].concat());
        self.tie();
        let elements = numbered(values);
        let object = || format!("endpoints of chain {chain}");
        self.elements(NEWSETELEM, ANONYMOUS_MAP, Some(id), true, elements.iter(), object);
        id
    }

    pub(super) fn add_map(&mut self, name: &'static str, map: &Map) {
        let table = self.table;
        let flags = if map.value == MapValue::Nothing { 0 } else { SET_MAP };
        // The kernel wants an id for every new set; it counts only within the transaction.
        let id = self.next_map;
        self.next_map += 1;
        let attributes = self.push(NEWSET, NLM_F_CREATE, format!("map {name}"));
        attributes.string(1, table).string(2, name).u32(3, flags);
        attributes.u32(4, Type::concatenated(map.key)).u32(5, Type::length(map.key));
        match map.value {
            MapValue::Nothing => {}
            MapValue::Verdict => {
                attributes.u32(6, VERDICT_TYPE).u32(7, 16);
            }
            MapValue::Concatenation(types) => {
                attributes.u32(6, Type::concatenated(types)).u32(7, Type::length(types));
            }
        }
        attributes.u32(10, id);
    }

    pub(super) fn add_elements<'a>(
        &mut self,
        map: &str,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Data>)>,
    ) {
        self.elements(NEWSETELEM, map, None, false, elements, || format!("elements of map {map}"));
    }

    pub(super) fn delete_elements<'a>(
        &mut self,
        map: &str,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Data>)>,
    ) {
        // The key says which.
        let keys = elements.map(|(key, _)| (key, &None));
        self.elements(DELSETELEM, map, None, false, keys, || format!("removal of elements of map {map}"));
    }

    fn elements<'a>(
        &mut self,
        kind: u8,
        map: &str,
        id: Option<u32>,
        tied: bool,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Data>)>,
        object: impl Fn() -> String,
    ) {
        let table = self.table;
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let flags = if kind == NEWSETELEM { NLM_F_CREATE } else { 0 };
            let attributes = self.push(kind, flags, object());
            attributes.string(1, table).string(2, map);
            attributes.nested(3, |list| {
                let start = list.len();
                while list.len() - start < ELEMENTS_LIMIT {
                    let Some((key, data)) = elements.next() else { break };
                    list.nested(1, |element| {
                        element.nested(1, |value| {
                            value.bytes(1, key);
                        });
                        if let Some(data) = data {
                            element.nested(2, |value| data.write(value));
                        }
                    });
                }
            });
            if let Some(id) = id {
                attributes.u32(4, id);
            }
            if tied {
                self.tie();
            }
        }
    }

    fn tie(&mut self) {
        if let Some(change) = self.changes.last_mut() {
            change.tied = true;
        }
    }

    fn push(&mut self, kind: u8, flags: u16, object: String) -> &mut Attributes {
        let index = self.changes.len();
        self.changes.push(Change { kind, flags, attributes: Attributes::default(), object, tied: false });
        &mut self.changes[index].attributes
    }
}
