//! What may not be: field errors with Kubernetes' exact messages.
//!
//! A rule looks at a part of an object, knows the [`Path`] of that part, and adds a [`FieldError`] for all that it
//! finds. The rules of a kind are in a file of its group; those that many kinds share are in [`names`], [`metadata`],
//! [`selector`] and [`number`].

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod autoscaling;
pub mod certificates;
pub mod core;
pub mod cron;
pub mod event;
pub mod flowcontrol;
pub mod go_json;
pub mod job;
pub mod limit_range;
pub mod metadata;
pub mod names;
pub mod networking;
pub mod node;
pub mod number;
pub mod pod;
pub mod policy;
pub mod quota;
pub mod resource;
pub mod selector;
pub mod service;
pub mod storage;
pub mod structural_schema;
pub mod warnings;
pub mod webhook;
pub mod workload;

use std::fmt;

use serde_json::Value;

use crate::quote::quote;
use crate::status::Cause;

/// Where in an object: field names, list indices and map keys from the root. Made on the way down without allocating;
/// becomes text only in an error.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The whole object.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A field of the root.
    pub fn new(field: &'a str) -> Self {
        Path { parent: None, step: Step::Field(field) }
    }

    /// A field of the value here; of several names, as in `metadata.name`, joined by dots.
    pub fn child(&'a self, field: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(field) }
    }

    /// An element of the list here.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// A value of the map here.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// The name of the last field.
    pub fn name(&self) -> &'a str {
        match self.step {
            Step::Field(name) | Step::Key(name) => name,
            Step::Index(_) | Step::Root => "",
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path, as `spec.ports[0].name`.
    pub field: String,
    pub kind: ErrorKind,
    /// The value as the message shows it: a quoted string, a number, or JSON. Unused by the kinds that show none.
    pub value: String,
    pub detail: String,
}

/// In which way a field is wrong; gives the reason of the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
}

impl FieldError {
    fn new(path: impl fmt::Display, kind: ErrorKind, value: String, detail: impl Into<String>) -> Self {
        Self { field: path.to_string(), kind, value, detail: detail.into() }
    }

    /// A field that has to be there is not.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, ErrorKind::Required, String::new(), detail)
    }

    /// A value that breaks a rule.
    pub fn invalid(path: &Path, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::new(path, ErrorKind::Invalid, value.shown(), detail)
    }

    /// A value that is none of a list.
    pub fn not_supported(path: &Path, value: impl Shown, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = match supported.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", supported.join(", ")),
        };
        Self::new(path, ErrorKind::NotSupported, value.shown(), detail)
    }

    /// A value that must be there only once.
    pub fn duplicate(path: &Path, value: impl Shown) -> Self {
        Self::new(path, ErrorKind::Duplicate, value.shown(), "")
    }

    /// A field that may not be set, or not now.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, ErrorKind::Forbidden, String::new(), detail)
    }

    /// The same at a path that is text already.
    pub fn forbidden_at_text(field: &str, detail: impl Into<String>) -> Self {
        Self::new(field, ErrorKind::Forbidden, String::new(), detail)
    }

    /// Text of more than `limit` bytes.
    pub fn too_long(path: &Path, limit: usize) -> Self {
        Self::new(path, ErrorKind::TooLong, String::new(), format!("may not be more than {limit} bytes"))
    }

    /// A list of `count` elements, with more than `limit`.
    pub fn too_many(path: &Path, count: usize, limit: usize) -> Self {
        let items = if limit == 1 { "item" } else { "items" };
        Self::new(path, ErrorKind::TooMany, count.to_string(), format!("must have at most {limit} {items}"))
    }

    /// A value that refers to something that is not there.
    pub fn not_found(path: &Path, value: impl Shown) -> Self {
        Self::new(path, ErrorKind::NotFound, value.shown(), "")
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::new(path, ErrorKind::TypeInvalid, value.shown(), detail)
    }

    /// A value that breaks a rule, at a path that is text already.
    pub fn at_text(field: &str, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::new(field, ErrorKind::Invalid, value.shown(), detail)
    }

    /// The same of no field in particular, which Go prints as `<nil>`.
    pub fn nowhere(value: impl Shown, detail: impl Into<String>) -> Self {
        Self::at_text("<nil>", value, detail)
    }

    /// A value of the wrong type, at a path that is text already.
    pub fn type_at_text(field: &str, value: impl Shown, detail: impl Into<String>) -> Self {
        Self::new(field, ErrorKind::TypeInvalid, value.shown(), detail)
    }

    /// A value that is none of a list, at a path that is text already.
    pub fn not_supported_at_text(field: &str, value: impl Shown, supported: &[String]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| quote(value)).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        Self::new(field, ErrorKind::NotSupported, value.shown(), detail)
    }

    /// Text that is too long, at a path that is text already.
    pub fn too_long_at_text(field: &str, limit: u64) -> Self {
        Self::new(field, ErrorKind::TooLong, String::new(), format!("may not be more than {limit} bytes"))
    }

    /// Too many elements or entries, at a path that is text already.
    pub fn too_many_at_text(field: &str, count: u64, limit: u64) -> Self {
        let items = if limit == 1 { "item" } else { "items" };
        Self::new(field, ErrorKind::TooMany, count.to_string(), format!("must have at most {limit} {items}"))
    }

    /// A field that has to be there, at a path that is text already.
    pub fn required_at_text(field: &str) -> Self {
        Self::new(field, ErrorKind::Required, String::new(), "")
    }

    /// A value that must be there only once, at a path that is text already.
    pub fn duplicate_at_text(field: &str, value: impl Shown) -> Self {
        Self::new(field, ErrorKind::Duplicate, value.shown(), "")
    }

    /// What a rule of a custom resource found, with the reason that the rule names. It shows no value.
    pub fn of_rule(field: &str, reason: &str, detail: impl Into<String>) -> Self {
        let kind = match reason {
            "FieldValueForbidden" => ErrorKind::Forbidden,
            "FieldValueRequired" => ErrorKind::Required,
            "FieldValueDuplicate" => ErrorKind::Duplicate,
            _ => ErrorKind::Invalid,
        };
        Self::new(field, kind, String::new(), detail)
    }

    /// Whether rules in CEL are not run on an object with this error: they could not trust its types.
    pub fn blocks_rules(&self) -> bool {
        use ErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(self.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    }

    fn reason(&self) -> &'static str {
        match self.kind {
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// The message without the field.
    pub fn message(&self) -> String {
        let (what, shows_value) = match self.kind {
            ErrorKind::Required => ("Required value", false),
            ErrorKind::Invalid | ErrorKind::TypeInvalid => ("Invalid value", true),
            ErrorKind::NotSupported => ("Unsupported value", true),
            ErrorKind::Duplicate => ("Duplicate value", true),
            ErrorKind::Forbidden => ("Forbidden", false),
            ErrorKind::TooLong => ("Too long", false),
            ErrorKind::TooMany => ("Too many", true),
            ErrorKind::NotFound => ("Not found", true),
        };
        let value = if shows_value && !self.value.is_empty() { format!(": {}", self.value) } else { String::new() };
        match self.detail.as_str() {
            "" => format!("{what}{value}"),
            detail => format!("{what}{value}: {detail}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Cause { reason: error.reason().into(), message: error.message(), field: error.field }
    }
}

/// A value as an error message shows it: strings quoted as Go does, the rest as JSON.
pub trait Shown {
    fn shown(self) -> String;
}

impl Shown for &str {
    fn shown(self) -> String {
        quote(self)
    }
}

impl Shown for &String {
    fn shown(self) -> String {
        quote(self)
    }
}

impl Shown for i64 {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Shown for &Value {
    fn shown(self) -> String {
        match self {
            Value::String(text) => quote(text),
            value => value.to_string(),
        }
    }
}

impl Shown for Option<&Value> {
    fn shown(self) -> String {
        self.map_or_else(|| "null".to_owned(), Shown::shown)
    }
}

/// Text that stands in the message as it is.
#[derive(Debug, Clone)]
pub struct Verbatim(pub String);

impl Shown for Verbatim {
    fn shown(self) -> String {
        self.0
    }
}

/// What a rule finds wrong with an object, as text.
#[cfg(test)]
fn wrong(rule: impl FnOnce(&Value, &mut Vec<FieldError>), object: Value) -> Vec<String> {
    let mut errors = Vec::new();
    rule(&object, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_in_kubernetes() {
        let spec = Path::new("spec");
        let ports = spec.child("ports");
        let port = ports.index(2);
        assert_eq!(port.child("name").to_string(), "spec.ports[2].name");
        assert_eq!(Path::new("data").key("a b").to_string(), "data[a b]");
        assert_eq!(Path::ROOT.child("kind").to_string(), "kind");
    }

    #[test]
    fn errors_read_as_in_kubernetes() {
        let at = Path::new("spec");
        for (error, message) in [
            (FieldError::required(&at, ""), "spec: Required value"),
            (FieldError::required(&at, "why"), "spec: Required value: why"),
            (FieldError::invalid(&at, "x\"y", "why"), "spec: Invalid value: \"x\\\"y\": why"),
            (FieldError::invalid(&at, 0, "why"), "spec: Invalid value: 0: why"),
            (
                FieldError::not_supported(&at, "c", &["a", "b"]),
                "spec: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            ),
            (FieldError::duplicate(&at, "a"), "spec: Duplicate value: \"a\""),
            (FieldError::forbidden(&at, "why"), "spec: Forbidden: why"),
            (FieldError::too_long(&at, 5), "spec: Too long: may not be more than 5 bytes"),
            (FieldError::too_many(&at, 3, 2), "spec: Too many: 3: must have at most 2 items"),
            (FieldError::not_found(&at, ""), "spec: Not found: \"\""),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }
}
