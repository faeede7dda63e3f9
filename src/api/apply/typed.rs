//! Values under their schema: which fields a value has, how two differ, and one merged into the other.
//!
//! The rules are those of `sigs.k8s.io/structured-merge-diff`: scalars, atomic lists and atomic maps are leaves; an
//! element of a list is named by its keys (`k:`) or its value (`v:`).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::fieldset::Set;
use crate::schema::{Kind, ListType, MapType, Schema};

/// What is known of a value's type.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    Known(Schema<'a>),
    /// Nothing: objects are maps, all else is a leaf.
    Deduced,
}

/// How a value is taken apart.
pub(super) enum Shape<'a> {
    Leaf,
    Map(Type<'a>),
    List(Schema<'a>),
}

impl<'a> Type<'a> {
    /// The shape of a value of this type. A value that is of another type than its schema says is a leaf.
    pub(super) fn shape(self, value: &Value) -> Shape<'a> {
        match (self, value) {
            (Type::Known(schema), Value::Object(_)) => match schema.kind() {
                Kind::Object | Kind::Map if schema.map_type() == MapType::Granular => Shape::Map(self),
                Kind::Any if !is_raw(schema) => Shape::Map(self),
                _ => Shape::Leaf,
            },
            (Type::Known(schema), Value::Array(_))
                if schema.kind() == Kind::Array && schema.list_type() != ListType::Atomic =>
            {
                Shape::List(schema)
            }
            (Type::Deduced, Value::Object(_)) => Shape::Map(self),
            _ => Shape::Leaf,
        }
    }

    /// The shape of two values to be compared or merged; `null` takes that of the other one.
    fn shape_of_both(self, left: Option<&Value>, right: Option<&Value>) -> Shape<'a> {
        match [right, left].into_iter().flatten().find(|value| !value.is_null()) {
            Some(value) => self.shape(value),
            None => Shape::Leaf,
        }
    }

    pub(super) fn child(self, key: &str) -> Type<'a> {
        match self {
            Type::Known(schema) if schema.kind() == Kind::Any => Type::Deduced,
            Type::Known(schema) => schema.child(key).map_or(Type::Deduced, Type::Known),
            other => other,
        }
    }

    /// Whether a key is a field that the schema names, rather than the key of a map.
    fn names(self, key: &str) -> bool {
        matches!(self, Type::Known(schema) if schema.kind() == Kind::Object && schema.field(key).is_some())
    }

    fn schema(self) -> Option<Schema<'a>> {
        match self {
            Type::Known(schema) => Some(schema),
            _ => None,
        }
    }
}

/// Whether a value is of some other type, which belongs as a whole to who sets it.
fn is_raw(schema: Schema<'_>) -> bool {
    schema.type_name().is_some_and(|name| name.ends_with(".RawExtension"))
}

pub(super) fn field(name: &str) -> Box<str> {
    ["f:", name].concat().into_boxed_str()
}

/// How an element of a list is named. `Err` is the key field that it lacks.
pub(super) fn list_element<'a>(item: &Value, list: Schema<'a>) -> Result<Box<str>, &'a str> {
    if list.list_type() == ListType::Set {
        return Ok(format!("v:{item}").into_boxed_str());
    }
    let mut keys = Map::new();
    for key in list.map_keys() {
        let value = match item.get(key) {
            Some(value) => Some(value.clone()),
            None => list.items().and_then(|item| item.field(key)).and_then(Schema::default),
        };
        keys.insert(key.to_owned(), value.ok_or(key)?);
    }
    Ok(format!("k:{}", Value::Object(keys)).into_boxed_str())
}

/// As [`list_element`], for lists that are not checked: an element without its keys is named by its position.
fn element_or_index(item: &Value, list: Schema<'_>, index: usize) -> Box<str> {
    list_element(item, list).unwrap_or_else(|_| format!("i:{index}").into_boxed_str())
}

fn item_type(list: Schema<'_>) -> Type<'_> {
    list.items().map_or(Type::Deduced, Type::Known)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Every leaf and list element that a value has.
pub(super) fn field_set(value: &Value, of: Type<'_>) -> Set {
    let mut set = Set::default();
    collect(value, of, &mut set);
    set
}

fn collect(value: &Value, of: Type<'_>, set: &mut Set) {
    match (of.shape(value), value) {
        (Shape::Map(of), Value::Object(fields)) => {
            for (name, value) in fields {
                let element = field(name);
                let below = set.child_mut(element.clone());
                collect(value, of.child(name), below);
                if value.is_null() || value.as_object().is_some_and(Map::is_empty) || !of.names(name) {
                    below.insert_member();
                }
                set.drop_if_empty(&element);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let below = set.child_mut(element_or_index(item, list, index));
                collect(item, item_type(list), below);
                below.insert_member();
            }
        }
        _ => set.insert_member(),
    }
}

/// How one value became another.
#[derive(Default)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    /// The same without what is at or below `ignored`.
    pub(super) fn excluding(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            removed: self.removed.recursive_difference(ignored),
        }
    }
}

/// What changed from `left` to `right`.
pub(super) fn compare(left: &Value, right: &Value, of: Type<'_>) -> Comparison {
    let mut changes = Comparison::default();
    compare_at(Some(left), Some(right), of, &mut Vec::new(), &mut changes);
    changes
}

fn compare_at(
    left: Option<&Value>,
    right: Option<&Value>,
    of: Type<'_>,
    path: &mut Vec<Box<str>>,
    changes: &mut Comparison,
) {
    if left == right {
        return;
    }
    match (left, right) {
        (None, Some(_)) => changes.added.insert(path),
        (Some(_), None) => changes.removed.insert(path),
        _ => {}
    }
    let leaf = |changes: &mut Comparison, path: &[Box<str>]| {
        if left.is_some() && right.is_some() {
            changes.modified.insert(path);
        }
    };
    let shape = of.shape_of_both(left, right);
    // Nothing against null is a difference of the field itself.
    if is_empty(left) && is_empty(right) {
        return leaf(changes, path);
    }
    match shape {
        Shape::Map(of) => {
            let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
            for (name, value) in left.into_iter().flatten() {
                path.push(field(name));
                compare_at(Some(value), right.and_then(|fields| fields.get(name)), of.child(name), path, changes);
                path.pop();
            }
            for (name, value) in right.into_iter().flatten() {
                if left.is_none_or(|fields| !fields.contains_key(name)) {
                    path.push(field(name));
                    compare_at(None, Some(value), of.child(name), path, changes);
                    path.pop();
                }
            }
        }
        Shape::List(list) => {
            let (left, right) = (by_element(left, list), by_element(right, list));
            for (element, items) in &left.order {
                compare_items(items, right.get(element), list, element, path, changes);
            }
            for (element, items) in &right.order {
                if left.get(element).is_empty() {
                    compare_items(&[], items, list, element, path, changes);
                }
            }
        }
        Shape::Leaf => leaf(changes, path),
    }
}

/// Compares the elements of one name; more than one is a duplicate, which only differs as a whole.
fn compare_items(
    left: &[&Value],
    right: &[&Value],
    list: Schema<'_>,
    element: &str,
    path: &mut Vec<Box<str>>,
    changes: &mut Comparison,
) {
    path.push(element.into());
    match (left, right) {
        ([_, _, ..], [_, ..]) | ([_], [_, _, ..]) => {
            if left != right {
                changes.modified.insert(path);
            }
        }
        ([_, _, ..], []) => changes.removed.insert(path),
        ([], [_, _, ..]) => changes.added.insert(path),
        _ => compare_at(left.first().copied(), right.first().copied(), item_type(list), path, changes),
    }
    path.pop();
}

/// The elements of a list by their names, in order of first appearance.
struct ByElement<'a> {
    order: Vec<(Box<str>, Vec<&'a Value>)>,
    index: HashMap<Box<str>, usize>,
}

impl<'a> ByElement<'a> {
    fn get(&self, element: &str) -> &[&'a Value] {
        self.index.get(element).map_or(&[], |at| &self.order[*at].1)
    }
}

fn by_element<'a>(items: Option<&'a Value>, list: Schema<'_>) -> ByElement<'a> {
    let mut found = ByElement { order: Vec::new(), index: HashMap::new() };
    for (index, item) in items.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let element = element_or_index(item, list, index);
        match found.index.get(&element) {
            Some(at) => found.order[*at].1.push(item),
            None => {
                found.index.insert(element.clone(), found.order.len());
                found.order.push((element, vec![item]));
            }
        }
    }
    found
}

/// `right` merged into `left`: what `right` has wins, what only `left` has stays.
pub(super) fn merge(left: &Value, right: &Value, of: Type<'_>) -> Value {
    if is_empty(Some(left)) && is_empty(Some(right)) {
        return right.clone();
    }
    match of.shape_of_both(Some(left), Some(right)) {
        Shape::Map(of) => {
            let mut merged = left.as_object().cloned().unwrap_or_default();
            for (name, value) in right.as_object().into_iter().flatten() {
                let value = match merged.remove(name) {
                    Some(live) => merge(&live, value, of.child(name)),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        Shape::List(list) => merge_lists(left, right, list),
        Shape::Leaf => right.clone(),
    }
}

/// Merges lists by element. The order is that of `right`; what only `left` has keeps its place among its neighbours.
fn merge_lists(left: &Value, right: &Value, list: Schema<'_>) -> Value {
    let (left, right) = (by_element(Some(left), list), by_element(Some(right), list));
    let of = item_type(list);
    let mut shared = right.order.iter().map(|(element, _)| element).filter(|e| left.index.contains_key(*e));
    let mut next_shared = shared.next();
    let mut done: HashMap<&str, ()> = HashMap::new();
    let mut merged = Vec::with_capacity(left.order.len().max(right.order.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.order.len() || r < right.order.len() {
        let ours = left.order.get(l);
        let theirs = right.order.get(r);
        if let (Some((ours, _)), Some((theirs, _))) = (ours, theirs)
            && ours != theirs
            && right.index.contains_key(ours)
            && next_shared.is_some_and(|shared| shared != ours)
        {
            // It is in both, but another one is due first.
            l += 1;
            continue;
        }
        if let Some((element, items)) = ours
            && theirs.is_none_or(|(theirs, _)| theirs != element)
        {
            if !right.index.contains_key(element) {
                merged.extend(items.iter().map(|item| (*item).clone()));
                l += 1;
                continue;
            }
            if done.contains_key(&**element) {
                l += 1;
            }
        }
        if let Some((element, items)) = theirs {
            done.insert(element, ());
            merged.push(match (left.get(element), items.as_slice()) {
                ([live], [item]) => merge(live, item, of),
                (_, [item, ..]) => (*item).clone(),
                (_, []) => Value::Null,
            });
            r += 1;
            if ours.is_some_and(|(ours, _)| ours == element) {
                l += 1;
            }
            if next_shared == Some(element) {
                next_shared = shared.next();
            }
        }
    }
    Value::Array(merged)
}

/// `value` without the fields and elements in `set`. What is left empty by it becomes `null`.
pub(super) fn remove(value: &Value, set: &Set, of: Type<'_>) -> Value {
    match (of.shape(value), value) {
        (Shape::Map(of), Value::Object(fields)) => {
            let kept = fields.iter().filter_map(|(name, value)| match set.child(&field(name)) {
                None => Some((name.clone(), value.clone())),
                Some(below) if below.is_member() => None,
                Some(below) => Some((name.clone(), remove(value, below, of.child(name)))),
            });
            let kept: Map<_, _> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Shape::List(list), Value::Array(items)) => {
            let kept = items.iter().enumerate().filter_map(|(index, item)| {
                match set.child(&element_or_index(item, list, index)) {
                    None => Some(item.clone()),
                    Some(below) if below.is_member() => None,
                    Some(below) => Some(remove(item, below, item_type(list))),
                }
            });
            let kept: Vec<_> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

/// The set with the fields that the schema names as members; see [`Set::with_named_fields`].
pub(super) fn with_named_fields(set: &Set, of: Type<'_>) -> Set {
    set.with_named_fields(of.schema())
}
