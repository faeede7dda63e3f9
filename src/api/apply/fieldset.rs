//! Sets of fields, as `managedFields` keep them (`fieldsV1`).
//!
//! A set is a tree in the shape of its JSON: the keys are path elements in their written form, `f:<name>` for a field,
//! `k:<keys>` for an element of a list by its keys, `v:<value>` for an element of a set, `i:<index>` for one by position.
//! A node can be a member itself (`{}`, or `"."` when it has children) and can have children.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::quote::quote;
use crate::schema::{Kind, Schema};

/// A set of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Whether the path up to here is in the set.
    member: bool,
    children: BTreeMap<Box<str>, Set>,
}

impl Set {
    /// A set of paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| format!("f:{name}").into_boxed_str()).collect::<Vec<_>>());
        }
        set
    }

    /// Adds a path of written elements.
    pub fn insert(&mut self, path: &[Box<str>]) {
        let mut node = self;
        for element in path {
            node = node.children.entry(element.clone()).or_default();
        }
        node.member = true;
    }

    pub(super) fn insert_member(&mut self) {
        self.member = true;
    }

    /// The node of an element, made if it is not there.
    pub(super) fn child_mut(&mut self, element: Box<str>) -> &mut Set {
        self.children.entry(element).or_default()
    }

    /// Drops a child that has turned out to hold nothing.
    pub(super) fn drop_if_empty(&mut self, element: &str) {
        if self.children.get(element).is_some_and(Set::is_empty) {
            self.children.remove(element);
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Whether the node itself is in the set.
    pub fn is_member(&self) -> bool {
        self.member
    }

    /// What the set holds at and below an element.
    pub fn child(&self, element: &str) -> Option<&Set> {
        self.children.get(element)
    }

    fn pruned(self) -> Option<Self> {
        (!self.is_empty()).then_some(self)
    }

    /// All that is in either.
    pub fn union(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, theirs) in &other.children {
            match self.children.get_mut(element) {
                Some(ours) => ours.add(theirs),
                None => {
                    self.children.insert(element.clone(), theirs.clone());
                }
            }
        }
    }

    /// All that is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let shared = self.children.iter().filter_map(|(element, ours)| {
            let both = ours.intersection(other.children.get(element)?).pruned()?;
            Some((element.clone(), both))
        });
        Self { member: self.member && other.member, children: shared.collect() }
    }

    /// What is not in `other`. A path goes only if it is itself in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is neither in `other` nor below a path in it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, recursive: bool) -> Self {
        let rest = self.children.iter().filter_map(|(element, ours)| {
            let rest = match other.children.get(element) {
                None => ours.clone(),
                Some(theirs) if recursive && theirs.member => return None,
                Some(theirs) => ours.without(theirs, recursive).pruned()?,
            };
            Some((element.clone(), rest))
        });
        Self { member: self.member && !other.member, children: rest.collect() }
    }

    /// The set with every field that the schema names and that has something below it in the set: such fields come and
    /// go with what is in them, since they are always there in a typed object.
    pub(super) fn with_named_fields(&self, schema: Option<Schema<'_>>) -> Self {
        let children = self.children.iter().map(|(element, node)| {
            let name = element.strip_prefix("f:");
            let below = schema.and_then(|schema| match name {
                Some(name) => schema.child(name),
                None => schema.items(),
            });
            let named = name.is_some() && below.is_some() && schema.is_some_and(|s| s.kind() == Kind::Object);
            let mut node = node.with_named_fields(below);
            node.member |= named;
            (element.clone(), node)
        });
        Self { member: self.member, children: children.collect() }
    }

    /// All paths in it, parents first, in Kubernetes' order, as `.spec.containers[name="c"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        // Kubernetes walks the members of a node before what lies below its other children.
        for descend in [false, true] {
            for (element, node) in &self.children {
                if !descend && !node.member || descend && node.children.is_empty() {
                    continue;
                }
                let length = prefix.len();
                push_element(prefix, element);
                if descend {
                    node.collect_paths(prefix, paths);
                } else {
                    paths.push(prefix.clone());
                }
                prefix.truncate(length);
            }
        }
    }

    /// `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut fields: Map<String, Value> =
            self.children.iter().map(|(element, node)| (element.to_string(), node.to_value())).collect();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        Value::Object(fields)
    }

    /// Reads `fieldsV1`. `None` if it is not in its format.
    pub fn from_value(fields: &Value) -> Option<Self> {
        let mut root = Self::node_from(fields)?;
        // An empty document is an empty set, not the root's membership.
        root.member = fields.get(".").is_some();
        Some(root)
    }

    fn node_from(fields: &Value) -> Option<Self> {
        let fields = fields.as_object()?;
        let mut node = Self { member: fields.is_empty(), children: BTreeMap::new() };
        for (element, below) in fields {
            if element == "." {
                node.member = true;
            } else {
                node.children.insert(canonical(element)?, Self::node_from(below)?);
            }
        }
        Some(node)
    }
}

/// An element as written here: keys and values may come in any JSON form.
fn canonical(element: &str) -> Option<Box<str>> {
    let (kind, rest) = element.split_once(':')?;
    match kind {
        "f" => Some(element.into()),
        "k" | "v" => {
            let value: Value = serde_json::from_str(rest).ok()?;
            if kind == "k" && !value.is_object() {
                return None;
            }
            Some(format!("{kind}:{value}").into_boxed_str())
        }
        "i" => rest.parse::<u64>().ok().map(|_| element.into()),
        _ => None,
    }
}

/// Appends an element as messages show it: `.name`, `[name="c",port=80]`, `[="x"]`, `[0]`.
pub(super) fn push_element(path: &mut String, element: &str) {
    let show = |value: &Value| match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    };
    // Writing to a String cannot fail.
    let _ = match element.split_at_checked(2) {
        Some(("f:", name)) => write!(path, ".{name}"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
            write!(path, "[{}]", keys.join(","))
        }
        Some(("v:", value)) => write!(path, "[={}]", show(&serde_json::from_str(value).unwrap_or_default())),
        Some((_, index)) => write!(path, "[{index}]"),
        None => write!(path, ".{element}"),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(fields: Value) -> Set {
        Set::from_value(&fields).expect("fieldsV1")
    }

    #[test]
    fn reads_and_writes_fields_v1() {
        let fields = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}},
            "f:metadata": {"f:finalizers": {"v:\"x\"": {}}}});
        assert_eq!(set(fields.clone()).to_value(), fields);
        assert_eq!(set(json!({"k: {\"b\": 1, \"a\": 2}": {}})).to_value(), json!({"k:{\"a\":2,\"b\":1}": {}}));
        assert!(set(json!({})).is_empty());
        for wrong in [json!({"x:a": {}}), json!({"k:1": {}}), json!({"f:a": 1}), json!([])] {
            assert_eq!(Set::from_value(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn algebra_tells_members_from_parents() {
        let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {}, "f:d": {}}));
        assert_eq!(a.clone().union(&b).to_value(), json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}}));
        assert_eq!(a.intersection(&b).to_value(), json!({"f:a": {}}));
        assert_eq!(a.difference(&b).to_value(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
        assert_eq!(a.recursive_difference(&b).to_value(), json!({"f:c": {}}));
        assert!(a.difference(&a).is_empty());
    }

    #[test]
    fn paths_read_as_in_conflicts() {
        let set = set(
            json!({"f:spec": {"f:c": {"k:{\"name\":\"c\",\"port\":80}": {".": {}, "f:image": {}}, "v:\"x\"": {}}}}),
        );
        assert_eq!(
            set.paths(),
            [".spec.c[name=\"c\",port=80]", ".spec.c[=\"x\"]", ".spec.c[name=\"c\",port=80].image"]
        );
    }
}
