//! The walk down a body and its schema together.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::presence::is_quantity;
use crate::quantity::Quantity;
use crate::schema::{Kind, Schema};

/// As many unknown and duplicate fields are told.
const MAX_STRICT: usize = 100;

/// In whose words a wrong type is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// The JSON decoder's.
    Json,
    /// Those of the conversion of patched values.
    Unstructured,
}

/// What is found on the way.
#[derive(Debug)]
pub struct State {
    words: Words,
    /// The first wrong type; the walk goes on, since what is no JSON comes first.
    pub error: Option<String>,
    /// Unknown and duplicate fields, in order.
    pub strict: Vec<String>,
    /// Whether duplicates are told where anything goes, too.
    everywhere: bool,
}

impl State {
    pub fn new(words: Words) -> Self {
        Self { words, error: None, strict: Vec::new(), everywhere: false }
    }

    /// Where duplicates are told wherever they are.
    pub fn everywhere(words: Words) -> Self {
        Self { everywhere: true, ..Self::new(words) }
    }

    fn fail(&mut self, error: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(error());
        }
    }

    fn strict(&mut self, what: &str, at: &Trail, field: &str) {
        if self.strict.len() < MAX_STRICT {
            let message = format!("{what} field \"{at}{}{field}\"", if at.is_root() { "" } else { "." });
            if !self.strict.contains(&message) {
                self.strict.push(message);
            }
        }
    }
}

/// Where the walk is: a list on the stack.
#[derive(Clone, Copy)]
struct Trail<'t> {
    parent: Option<&'t Trail<'t>>,
    step: Step<'t>,
}

#[derive(Clone, Copy)]
enum Step<'t> {
    Root,
    /// A field of a struct, and the name of the struct.
    Field(&'t str, Option<&'t str>),
    Key(&'t str),
    Index(usize),
}

impl Trail<'_> {
    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }

    /// `Go struct field Container.spec.containers.image`, or `Go value` at the root.
    fn go_place(&self) -> String {
        let (mut names, mut owner, mut at) = (Vec::new(), None, Some(self));
        while let Some(trail) = at {
            if let Step::Field(name, of) = trail.step {
                owner = owner.or(of);
                names.push(name);
            }
            at = trail.parent;
        }
        if names.is_empty() {
            return "Go value".to_owned();
        }
        names.reverse();
        let owner = owner.and_then(|owner| owner.rsplit('.').next()).unwrap_or_default();
        format!("Go struct field {owner}.{}", names.join("."))
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let dot = if self.parent.is_some_and(|parent| !parent.is_root()) { "." } else { "" };
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name, _) | Step::Key(name) => write!(f, "{dot}{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// One value of the body and what it should be.
pub struct Walk<'w> {
    state: &'w mut State,
    /// None where anything goes.
    schema: Option<Schema<'w>>,
    at: Trail<'w>,
}

impl<'w> Walk<'w> {
    pub fn root(state: &'w mut State, schema: Schema<'w>) -> Self {
        Self { state, schema: Some(schema), at: Trail { parent: None, step: Step::Root } }
    }

    /// A walk down a body that may be anything.
    pub fn untyped(state: &'w mut State) -> Self {
        Self { state, schema: None, at: Trail { parent: None, step: Step::Root } }
    }

    /// The kind the value has to be of; None if anything goes here.
    fn expected(&self) -> Option<(Kind, Schema<'w>)> {
        let schema = self.schema.filter(|schema| schema.is_builtin())?;
        Some((schema.kind(), schema)).filter(|(kind, _)| *kind != Kind::Any)
    }

    fn wrong_type(self, what: &str, schema: Schema) -> Value {
        let (words, at) = (self.state.words, self.at);
        self.state.fail(|| match (words, schema.kind()) {
            (Words::Unstructured, Kind::Array) => format!("cannot restore slice from {}", unstructured_type(what)),
            (Words::Unstructured, Kind::Map) => format!("cannot restore map from {}", unstructured_type(what)),
            (Words::Unstructured, Kind::Object) => format!("cannot restore struct from: {}", unstructured_type(what)),
            (Words::Unstructured, _) => format!("unrecognized type: {}", schema.go_type()),
            (Words::Json, _) => {
                let ty = match schema.kind() {
                    // These types decode themselves, and ask for what they hold.
                    Kind::IntOrString if !is_quantity(schema) => "int32".to_owned(),
                    Kind::String if schema.format() == Some("date-time") => "string".to_owned(),
                    _ => schema.go_type(),
                };
                format!("json: cannot unmarshal {what} into {} of type {ty}", at.go_place())
            }
        });
        Value::Null
    }

    fn number(self, number: Number) -> Value {
        let Some((kind, schema)) = self.expected() else { return Value::Number(number) };
        match kind {
            Kind::Number => Value::Number(number),
            Kind::Integer => match number.as_i64() {
                Some(value) if schema.format() != Some("int32") || i32::try_from(value).is_ok() => {
                    Value::Number(number)
                }
                _ => self.wrong_type(&format!("number {number}"), schema),
            },
            Kind::IntOrString if is_quantity(schema) => self.quantity(&number.to_string()),
            Kind::IntOrString => match number.as_i64().and_then(|value| i32::try_from(value).ok()) {
                Some(value) => value.into(),
                None => self.wrong_type(&format!("number {number}"), schema),
            },
            _ => self.wrong_type("number", schema),
        }
    }

    fn quantity(self, text: &str) -> Value {
        match text.parse::<Quantity>() {
            Ok(quantity) => quantity.to_string().into(),
            Err(error) => {
                self.state.fail(|| error.to_string());
                Value::Null
            }
        }
    }

    fn text(self, text: String) -> Value {
        let Some((kind, schema)) = self.expected() else { return Value::String(text) };
        match (kind, schema.format()) {
            (Kind::IntOrString, _) if is_quantity(schema) => self.quantity(&text),
            (Kind::String, Some("byte")) => self.bytes(text),
            (Kind::String, Some("date-time")) => self.time(text, schema),
            (Kind::String | Kind::IntOrString, _) => Value::String(text),
            _ => self.wrong_type("string", schema),
        }
    }

    fn bytes(self, text: String) -> Value {
        use base64::{DecodeError, Engine, engine::general_purpose::STANDARD};
        // Line breaks are skipped by Go's decoder, and gone when it encodes.
        let text = if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "") } else { text };
        match STANDARD.decode(&text) {
            Ok(_) => Value::String(text),
            Err(error) => {
                let at = match error {
                    DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                    DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len() / 4 * 4,
                };
                self.state.fail(|| format!("illegal base64 data at input byte {at}"));
                Value::Null
            }
        }
    }

    fn time(self, text: String, schema: Schema) -> Value {
        let micro = schema.type_name().is_some_and(|name| name.ends_with(".MicroTime"));
        match crate::time::parse(&text) {
            _ if text.is_empty() => Value::Null,
            Some(time) if micro => crate::time::format_micros(time).into(),
            Some(time) => crate::time::format_seconds(time).into(),
            None => {
                let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
                let text = crate::quote::quote(&text);
                self.state.fail(|| format!("parsing time {text} as \"{layout}\": cannot parse {text} as \"2006\""));
                Value::Null
            }
        }
    }
}

/// What Go's decoder calls a JSON value.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What the conversion of patched values calls one.
fn unstructured_type(what: &str) -> &str {
    match what {
        "array" => "slice",
        "object" => "map",
        "number" => "int64",
        other => other,
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(match self.expected() {
            Some((kind, schema)) if kind != Kind::Boolean => self.wrong_type("bool", schema),
            _ => value.into(),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, |number| self.number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(self.text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(self.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        if let Some((kind, schema)) = self.expected()
            && kind != Kind::Array
        {
            while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            return Ok(self.wrong_type("array", schema));
        }
        let schema = self.schema.and_then(Schema::items);
        let mut items = Vec::new();
        loop {
            let at = Trail { parent: Some(&self.at), step: Step::Index(items.len()) };
            match list.next_element_seed(Walk { state: self.state, schema, at })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if let Some((kind, schema)) = self.expected()
            && !matches!(kind, Kind::Object | Kind::Map)
        {
            while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            return Ok(self.wrong_type("object", schema));
        }
        let mut fields = Map::new();
        // Keys that were refused, or whose values were null, may be duplicates too.
        let mut dropped: HashSet<String> = HashSet::new();
        let struct_name = self.schema.and_then(Schema::type_name);
        while let Some(key) = map.next_key::<String>()? {
            if (self.schema.is_some() || self.state.everywhere) && (fields.contains_key(&key) || dropped.contains(&key))
            {
                self.state.strict("duplicate", &self.at, &key);
            }
            let (child, step) = match self.schema {
                None => (None, Step::Key(&key)),
                Some(schema) if schema.kind() == Kind::Map => (schema.values(), Step::Key(&key)),
                Some(schema) => match schema.field(&key) {
                    Some(field) => (Some(field), Step::Field(&key, struct_name)),
                    None if schema.preserves_unknown() => (None, Step::Key(&key)),
                    None if schema.is_embedded_resource() && matches!(&*key, "apiVersion" | "kind" | "metadata") => {
                        (None, Step::Key(&key))
                    }
                    None => {
                        self.state.strict("unknown", &self.at, &key);
                        map.next_value::<serde::de::IgnoredAny>()?;
                        dropped.insert(key);
                        continue;
                    }
                },
            };
            let at = Trail { parent: Some(&self.at), step };
            let value = map.next_value_seed(Walk { state: self.state, schema: child, at })?;
            match value {
                // In a map of texts, null is the empty text.
                Value::Null if self.schema.is_some_and(|schema| schema.is_builtin() && schema.kind() == Kind::Map) => {
                    let empty = child.is_some_and(|child| child.kind() == Kind::String && child.format().is_none());
                    fields.insert(key, if empty { "".into() } else { Value::Null });
                }
                value => {
                    fields.insert(key, value);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}
