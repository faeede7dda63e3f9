//! A value together with where it is: what rules are written in.

use serde_json::{Map, Value};

use super::{FieldError, Path, Shown, Verbatim};
use crate::quote::quote;

/// What is found wrong, in order.
pub type Errors = Vec<FieldError>;

static NULL: Value = Value::Null;

/// A part of an object and its path. An absent field is a node too: its value is null.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub value: &'a Value,
    pub path: Path<'a>,
}

impl<'a> Node<'a> {
    /// The whole object.
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: Path::ROOT }
    }

    /// A field of this object.
    pub fn field(&'a self, name: &'a str) -> Node<'a> {
        Node { value: self.value.get(name).unwrap_or(&NULL), path: self.path.child(name) }
    }

    /// The elements of this list.
    pub fn items(&'a self) -> impl Iterator<Item = Node<'a>> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(index, value)| Node { value, path: self.path.index(index) })
    }

    /// The entries of this map.
    pub fn entries(&'a self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), Node { value, path: self.path.key(key) }))
    }

    /// Whether it is there.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether it is absent, or a text, list or map of nothing.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// How many elements this list has.
    pub fn len(&self) -> usize {
        self.value.as_array().map_or(0, Vec::len)
    }

    /// The text here; empty if there is none.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number here, if there is one.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The truth here; false if there is none.
    pub fn bool(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// The map here.
    pub fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    pub fn required(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::required(&self.path, detail));
    }

    pub fn forbidden(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::forbidden(&self.path, detail));
    }

    /// The value here is not what it may be.
    pub fn invalid(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::invalid(&self.path, self.value, detail));
    }

    /// The same, of a text, which is empty if absent.
    pub fn invalid_text(&self, errors: &mut Errors, details: impl IntoIterator<Item = impl Into<String>>) {
        for detail in details {
            errors.push(FieldError::invalid(&self.path, self.text(), detail));
        }
    }

    /// The same, showing another value than the one here.
    pub fn invalid_as(&self, value: impl Shown, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(FieldError::invalid(&self.path, value, detail));
    }

    pub fn not_supported(&self, errors: &mut Errors, supported: &[&str]) {
        let value = if self.is_set() { self.value.shown() } else { quote("") };
        errors.push(FieldError::not_supported(&self.path, Verbatim(value), supported));
    }

    pub fn duplicate(&self, errors: &mut Errors) {
        errors.push(FieldError::duplicate(&self.path, self.value));
    }

    /// A text that must be there.
    pub fn require(&self, errors: &mut Errors) -> bool {
        if self.is_empty() {
            self.required(errors, "");
        }
        !self.is_empty()
    }

    /// A text that must be one of those; absent only if it is defaulted.
    pub fn one_of(&self, errors: &mut Errors, supported: &[&str]) {
        if !supported.contains(&self.text()) {
            self.not_supported(errors, supported);
        }
    }

    /// A number that must not be negative.
    pub fn non_negative(&self, errors: &mut Errors) {
        if self.int().is_some_and(|value| value < 0) {
            self.invalid(errors, "must be greater than or equal to 0");
        }
    }

    /// A number within bounds, which belong to it.
    pub fn in_range(&self, low: i64, high: i64, errors: &mut Errors) {
        if self.int().is_some_and(|value| !(low..=high).contains(&value)) {
            self.invalid(errors, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// A field that an update may not change.
    pub fn immutable(&self, old: &Node, errors: &mut Errors) {
        if self.value != old.value {
            self.invalid(errors, "field is immutable");
        }
    }
}

/// A value as Go shows a struct of its internal types: fields in the order and with the names of the struct, absent
/// ones as null.
pub fn go_struct(value: &Value, fields: &[(&str, &str)]) -> Verbatim {
    let fields: Vec<String> = fields
        .iter()
        .map(|(go_name, name)| format!("{}:{}", quote(go_name), value.get(name).unwrap_or(&Value::Null)))
        .collect();
    Verbatim(format!("{{{}}}", fields.join(",")))
}
