//! Schemas of custom resources: which values they allow, and rules in CEL.
//!
//! A definition's `openAPIV3Schema` becomes two things: a [`Table`](crate::schema::Table), by which objects are decoded,
//! pruned, defaulted and merged like built-in ones, and a [`Structural`], which knows what values may be.

mod cost;
mod embedded;
pub mod format;
mod lists;
pub mod rules;
mod scale;
mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::{Map, Value};

pub use scale::ScalePaths;

use crate::schema::Table;
use crate::validation::{FieldError, Verbatim};
use rules::Rules;

/// What a custom resource's version says of its objects.
#[derive(Debug)]
pub struct CustomSchema {
    pub table: Table,
    pub structural: Structural,
    pub rules: Rules,
    /// Where the `scale` subresource finds its numbers.
    pub scale: Option<ScalePaths>,
}

impl CustomSchema {
    /// All that is wrong with an object; of an update with its rules of transition.
    pub fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let before = errors.len();
        validate::validate(&self.structural, new, old, errors);
        if let Some(scale) = &self.scale {
            scale.validate(new, errors);
        }
        embedded::validate(&self.structural, new, errors);
        lists::validate(&self.structural, new, errors);
        if self.rules.is_empty() {
            return;
        }
        if errors[before..].iter().any(FieldError::blocks_rules) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.push(FieldError::nowhere(Verbatim("null".to_owned()), why));
            return;
        }
        self.rules.validate(&self.structural, new, old, errors);
    }
}

/// The type that a schema names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    /// Of the word in the schema.
    pub fn parse(word: &str) -> Option<Kind> {
        Some(match word {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    /// The word in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

pub use crate::schema::ListType;

/// One schema, with those below it.
#[derive(Debug, Default)]
pub struct Structural {
    kind: Option<Kind>,
    int_or_string: bool,
    embedded_resource: bool,
    nullable: bool,
    format: Option<String>,
    list_type: Option<ListType>,
    map_keys: Vec<String>,
    items: Option<Box<Structural>>,
    additional: Option<Box<Structural>>,
    properties: BTreeMap<String, Structural>,
    required: Vec<String>,
    values: Vec<Value>,
    limits: Limits,
    pattern: Option<Pattern>,
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

/// The bounds of values.
#[derive(Debug, Default)]
struct Limits {
    minimum: Option<f64>,
    exclusive_minimum: bool,
    maximum: Option<f64>,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    unique_items: bool,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: OnceLock<Option<Arc<Regex>>>,
}

impl Pattern {
    /// Whether a text has it. One that can't be compiled, which the definition's validation refuses, no text has.
    fn matches(&self, text: &str) -> bool {
        let regex = self.regex.get_or_init(|| crate::go_regex::compile(&self.text).ok().map(Arc::new));
        regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl Structural {
    /// Of an `openAPIV3Schema`.
    pub fn parse(schema: &Value) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
        let text = |name: &str| schema.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        let count = |name: &str| schema.get(name).and_then(Value::as_u64);
        let one = |name: &str| schema.get(name).filter(|value| value.is_object()).map(|s| Box::new(Self::parse(s)));
        let many = |name: &str| list(schema, name).iter().map(Self::parse).collect::<Vec<_>>();
        let words = |name: &str| list(schema, name).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            kind: text("type").and_then(Kind::parse),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            nullable: flag("nullable"),
            format: text("format").map(str::to_owned),
            list_type: text("x-kubernetes-list-type").map(|word| match word {
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Atomic,
            }),
            map_keys: words("x-kubernetes-list-map-keys"),
            items: one("items"),
            additional: one("additionalProperties"),
            properties: fields(schema, "properties").map(|(name, of)| (name.clone(), Self::parse(of))).collect(),
            required: words("required"),
            values: list(schema, "enum").to_vec(),
            limits: Limits {
                minimum: number("minimum"),
                exclusive_minimum: flag("exclusiveMinimum"),
                maximum: number("maximum"),
                exclusive_maximum: flag("exclusiveMaximum"),
                multiple_of: number("multipleOf"),
                min_length: count("minLength"),
                max_length: count("maxLength"),
                min_items: count("minItems"),
                max_items: count("maxItems"),
                min_properties: count("minProperties"),
                max_properties: count("maxProperties"),
                unique_items: flag("uniqueItems"),
            },
            pattern: text("pattern").map(|text| Pattern { text: text.to_owned(), regex: OnceLock::new() }),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: one("not"),
        }
    }

    /// The type of its values, if it names one.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    /// The schema of a list's elements.
    pub fn items(&self) -> Option<&Structural> {
        self.items.as_deref()
    }

    /// The schema of a field, or of a map's values.
    pub fn child(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// The path of that field or value of a map, below `path`, as errors name it: `spec.ports`, `data[key]`.
    fn child_path(&self, path: &str, name: &str) -> String {
        match self.properties.contains_key(name) {
            _ if path.is_empty() => name.to_owned(),
            true => format!("{path}.{name}"),
            false => format!("{path}[{name}]"),
        }
    }

    /// Whether it names fields.
    pub fn has_properties(&self) -> bool {
        !self.properties.is_empty()
    }

    /// How a list is merged and compared.
    pub fn list_type(&self) -> ListType {
        self.list_type.unwrap_or(ListType::Atomic)
    }

    /// The fields that identify a list's element.
    pub fn map_keys(&self) -> &[String] {
        &self.map_keys
    }
}

fn list<'a>(schema: &'a Value, name: &str) -> &'a [Value] {
    schema.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn fields<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// The element of an old list that an element of the new one was: that with the same keys, in a list that has keys.
fn correlated<'v>(schema: &Structural, old: Option<&'v Value>, item: &Value) -> Option<&'v Value> {
    if schema.list_type() != ListType::Map {
        return None;
    }
    let mut olds = old?.as_array()?.iter();
    olds.find(|other| schema.map_keys.iter().all(|key| other.get(key) == item.get(key)))
}
