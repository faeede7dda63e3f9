//! Builds a [`Table`](super::Table) from JSON schemas: the built-in one when this crate is built (the build script
//! includes this file), and one per version of a custom resource when its definition is established.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

use super::table::{BUILTIN_BIT, FLAGS, Field, NONE, Node, Owned};

/// Turns JSON schemas (OpenAPI v3's, with Kubernetes' extensions) into one table.
///
/// `$ref`s are resolved by the last segment of their path among the definitions given, else among the built-in ones.
pub struct Builder<'a> {
    definitions: BTreeMap<&'a str, &'a Value>,
    builtin: &'a dyn Fn(&str) -> Option<u32>,
    strings: HashMap<String, u32>,
    /// A definition's own node, without what a referring field says.
    roots: BTreeMap<String, u32>,
    out: Owned,
}

impl<'a> Builder<'a> {
    /// A builder of a table over `definitions`; `builtin` finds the node of a built-in definition.
    pub fn new(definitions: BTreeMap<&'a str, &'a Value>, builtin: &'a dyn Fn(&str) -> Option<u32>) -> Self {
        let mut builder =
            Self { definitions, builtin, strings: HashMap::new(), roots: BTreeMap::new(), out: Owned::default() };
        builder.intern("");
        builder
    }

    /// The table of all definitions, and the nodes of the definitions by name.
    pub fn build(mut self) -> (Owned, BTreeMap<String, u32>) {
        let names: Vec<&str> = self.definitions.keys().copied().collect();
        // Every definition gets its node first, so that definitions can refer to each other and to themselves.
        for name in &names {
            let node = self.out.nodes.len() as u32;
            self.out.nodes.push(Node::default());
            self.roots.insert((*name).to_owned(), node);
        }
        for name in &names {
            let schema = self.definitions[name];
            let id = self.roots[*name];
            self.fill(id, schema);
            self.out.nodes[id as usize].type_name = self.intern(name);
        }
        self.settle(names.len());
        (self.out, self.roots)
    }

    /// A reference's node was made before its target was filled: take over now what the target says.
    fn settle(&mut self, definitions: usize) {
        for id in definitions..self.out.nodes.len() {
            let target = self.out.nodes[id].target;
            if target == NONE || target & BUILTIN_BIT != 0 {
                continue;
            }
            let (target, node) = (self.out.nodes[target as usize].clone(), &mut self.out.nodes[id]);
            let description = if node.description_len == 0 {
                (target.description, target.description_len)
            } else {
                (node.description, node.description_len)
            };
            *node = Node {
                kind: target.kind,
                flags: node.flags | target.flags,
                description: description.0,
                description_len: description.1,
                default: if node.default == 0 { target.default } else { node.default },
                map_keys: if node.map_keys.1 == 0 { target.map_keys } else { node.map_keys },
                merge_key: if node.merge_key == 0 { target.merge_key } else { node.merge_key },
                target: node.target,
                ..target
            };
        }
    }

    fn fill(&mut self, id: u32, schema: &Value) {
        let mut node = self.facets(schema);
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            node.target = match self.roots.get(name) {
                Some(root) => *root,
                None => (self.builtin)(name).map_or(NONE, |node| node | BUILTIN_BIT),
            };
        }
        if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
            node.items = self.add(items);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            node.items = self.add(values);
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            // Sorted by name: a field is found by bisection.
            let mut properties: Vec<_> = properties.iter().collect();
            properties.sort_by_key(|(name, _)| name.as_str());
            let fields: Vec<Field> = properties
                .into_iter()
                .map(|(name, schema)| Field { name: self.intern(name), node: self.add(schema) })
                .collect();
            node.fields = (self.out.fields.len() as u32, fields.len() as u32);
            self.out.fields.extend(fields);
        }
        self.out.nodes[id as usize] = node;
    }

    fn add(&mut self, schema: &Value) -> u32 {
        let id = self.out.nodes.len() as u32;
        self.out.nodes.push(Node::default());
        self.fill(id, schema);
        id
    }

    /// All that a schema says but for its children.
    fn facets(&mut self, schema: &Value) -> Node {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mut node = Node { kind: kind(schema), target: NONE, items: NONE, ..Node::default() };
        for (set, bit) in [
            (flag("nullable"), FLAGS.nullable),
            (flag("x-kubernetes-preserve-unknown-fields"), FLAGS.preserve_unknown),
            (flag("x-kubernetes-embedded-resource"), FLAGS.embedded_resource),
            (flag("x-kubernetes-pointer"), FLAGS.pointer),
            (flag("x-kubernetes-always"), FLAGS.always),
            (text("x-kubernetes-list-type") == Some("set"), FLAGS.list_set),
            (text("x-kubernetes-list-type") == Some("map"), FLAGS.list_map),
            (text("x-kubernetes-map-type") == Some("atomic"), FLAGS.map_atomic),
        ] {
            if set {
                node.flags |= bit;
            }
        }
        for strategy in text("x-kubernetes-patch-strategy").unwrap_or_default().split(',') {
            match strategy {
                "merge" => node.flags |= FLAGS.patch_merge,
                "retainKeys" => node.flags |= FLAGS.patch_retain_keys,
                _ => {}
            }
        }
        node.merge_key = text("x-kubernetes-patch-merge-key").map_or(0, |key| self.intern(key));
        node.go_type = text("x-kubernetes-go-type").map_or(0, |name| self.intern(name));
        node.format = text("format").map_or(0, |format| self.intern(format));
        node.default = schema.get("default").map_or(0, |default| self.intern(&default.to_string()));
        node.map_keys = self.words(schema.get("x-kubernetes-list-map-keys"));
        node.required = self.words(schema.get("required"));
        if let Some(description) = text("description") {
            node.description = self.out.descriptions.len() as u32;
            node.description_len = description.len() as u32;
            self.out.descriptions.push_str(description);
        }
        node
    }

    fn words(&mut self, list: Option<&Value>) -> (u32, u32) {
        let words: Vec<u32> = list
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|word| self.intern(word))
            .collect();
        let start = self.out.words.len() as u32;
        self.out.words.extend(&words);
        (start, words.len() as u32)
    }

    /// A string's number, counted from 0, which is the empty string.
    fn intern(&mut self, text: &str) -> u32 {
        if let Some(id) = self.strings.get(text) {
            return *id;
        }
        let id = self.strings.len() as u32;
        self.out.ends.push(self.out.text.len() as u32 + text.len() as u32);
        self.out.text.push_str(text);
        self.strings.insert(text.to_owned(), id);
        id
    }
}

/// What a schema describes, as the discriminant of [`Kind`](super::Kind).
fn kind(schema: &Value) -> u32 {
    use super::table::kinds;
    if schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true) {
        return kinds::INT_OR_STRING;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") if schema.get("additionalProperties").is_some_and(Value::is_object) => kinds::MAP,
        Some("object") if schema.get("properties").is_some() => kinds::OBJECT,
        Some("object") if schema.get("x-kubernetes-preserve-unknown-fields").is_none() => kinds::OBJECT,
        Some("array") => kinds::ARRAY,
        Some("string") => kinds::STRING,
        Some("integer") => kinds::INTEGER,
        Some("number") => kinds::NUMBER,
        Some("boolean") => kinds::BOOLEAN,
        _ => kinds::ANY,
    }
}
