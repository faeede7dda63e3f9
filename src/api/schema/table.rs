//! The representation of schemas: arrays of small numbers that refer to each other. The built-in table is made of
//! constants that hold no pointer, so that it lies in the binary's read-only pages, which need no relocation and are
//! only resident once touched.

use std::borrow::Cow;

/// No node.
pub const NONE: u32 = u32::MAX;
/// Marks a target that is a node of the built-in table.
pub const BUILTIN_BIT: u32 = 1 << 31;

/// The numbers of [`Kind`](super::Kind).
pub mod kinds {
    pub const ANY: u32 = 0;
    pub const OBJECT: u32 = 1;
    pub const MAP: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRING: u32 = 4;
    pub const INTEGER: u32 = 5;
    pub const NUMBER: u32 = 6;
    pub const BOOLEAN: u32 = 7;
    pub const INT_OR_STRING: u32 = 8;
}

/// The bits of [`Node::flags`].
pub struct Flags {
    pub nullable: u32,
    pub preserve_unknown: u32,
    pub embedded_resource: u32,
    pub pointer: u32,
    pub always: u32,
    pub list_set: u32,
    pub list_map: u32,
    pub map_atomic: u32,
    pub patch_merge: u32,
    pub patch_retain_keys: u32,
}

/// The bits of [`Node::flags`].
pub const FLAGS: Flags = Flags {
    nullable: 1,
    preserve_unknown: 1 << 1,
    embedded_resource: 1 << 2,
    pointer: 1 << 3,
    always: 1 << 4,
    list_set: 1 << 5,
    list_map: 1 << 6,
    map_atomic: 1 << 7,
    patch_merge: 1 << 8,
    patch_retain_keys: 1 << 9,
};

/// One schema. Strings are numbers of [`Table::string`], where 0 is none; pairs are a start and a length.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub kind: u32,
    pub flags: u32,
    pub type_name: u32,
    pub format: u32,
    /// What Go calls the type, where it is neither a struct's name nor a basic type.
    pub go_type: u32,
    pub default: u32,
    pub merge_key: u32,
    pub description: u32,
    pub description_len: u32,
    /// The node of the definition that this one refers to, whose facets it took over.
    pub target: u32,
    /// The schema of a list's elements or of a map's values.
    pub items: u32,
    pub fields: (u32, u32),
    pub required: (u32, u32),
    pub map_keys: (u32, u32),
}

/// A property of an object.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: u32,
    pub node: u32,
}

/// Schemas that refer to each other: the built-in ones ([`BUILTIN`](super::BUILTIN)), or those of one custom resource.
#[derive(Debug, Clone)]
pub struct Table {
    pub(crate) nodes: Cow<'static, [Node]>,
    pub(crate) fields: Cow<'static, [Field]>,
    /// Strings of `required` and `map_keys`.
    pub(crate) words: Cow<'static, [u32]>,
    /// Where each string ends in `text`.
    pub(crate) ends: Cow<'static, [u32]>,
    pub(crate) text: Cow<'static, str>,
    pub(crate) descriptions: Cow<'static, str>,
}

impl Table {
    pub(crate) fn string(&self, id: u32) -> &str {
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        &self.text[start as usize..self.ends[id as usize] as usize]
    }
}

/// A table that is being built.
#[derive(Debug, Default)]
pub struct Owned {
    pub nodes: Vec<Node>,
    pub fields: Vec<Field>,
    pub words: Vec<u32>,
    pub ends: Vec<u32>,
    pub text: String,
    pub descriptions: String,
}
