//! Values of expressions. Objects are read in place: a list or map of JSON becomes one of values only where it is
//! looked into.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map as JsonMap, Value as Json};

use super::library::opaque::Opaque;
use super::types::{Type, unescape};
use crate::structural::{Kind, Structural};

/// A value. `'a` is as long as the object and the program live.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Duration(SignedDuration),
    Timestamp(Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    Opaque(Arc<Opaque>),
}

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// Of an object, with its schema.
    Json(&'a [Json], Option<&'a Structural>),
    Owned(Arc<Vec<Value<'a>>>),
}

/// A map, or an object.
#[derive(Debug, Clone)]
pub enum Map<'a> {
    /// Of an object, with its schema.
    Json(&'a JsonMap<String, Json>, Option<&'a Structural>),
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What a map's values are found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Cow<'a, str>),
}

impl<'a> Key<'a> {
    /// A value as a key; None if it can't be one. Whole numbers of all types are one key.
    pub fn of(value: &Value<'a>) -> Option<Key<'a>> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Key::Uint(*value), Key::Int),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e18 => Key::Int(*value as i64),
            Value::String(value) => Key::String(value.clone()),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(value) => Value::String(value.clone()),
        }
    }
}

impl<'a> Value<'a> {
    /// A value of JSON, as its schema understands it.
    pub fn of_json(json: &'a Json, schema: Option<&'a Structural>) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => {
                let double = schema.is_some_and(|schema| schema.kind() == Some(Kind::Number));
                match (number.as_i64(), number.as_u64()) {
                    (Some(value), _) if !double => Value::Int(value),
                    (None, Some(value)) if !double => Value::Uint(value),
                    _ => Value::Double(number.as_f64().unwrap_or_default()),
                }
            }
            Json::String(text) => {
                let format = schema.filter(|schema| schema.kind() == Some(Kind::String)).and_then(Structural::format);
                format.and_then(|format| Self::of_format(text, format)).unwrap_or(Value::String(text.into()))
            }
            Json::Array(items) => Value::List(List::Json(items, schema)),
            Json::Object(fields) => Value::Map(Map::Json(fields, schema)),
        }
    }

    /// Texts of some formats are values of another type. None if the text has not that format.
    fn of_format(text: &'a str, format: &str) -> Option<Value<'a>> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match format {
            "byte" => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into())),
            "duration" => super::library::time::parse_duration(text).map(Value::Duration),
            "date-time" => text.parse().ok().map(Value::Timestamp),
            "date" => format!("{text}T00:00:00Z").parse().ok().map(Value::Timestamp),
            _ => None,
        }
    }

    /// Text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Value<'a> {
        Value::String(text.into())
    }

    /// A list of values.
    pub fn list(values: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Owned(Arc::new(values)))
    }

    /// A map with text keys.
    pub fn map<K: Into<Cow<'a, str>>>(entries: impl IntoIterator<Item = (K, Value<'a>)>) -> Value<'a> {
        let entries = entries.into_iter().map(|(key, value)| (Key::String(key.into()), value)).collect();
        Value::Map(Map::Owned(Arc::new(entries)))
    }

    /// An optional that is there.
    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// The type of the value, as `type(x)` says it.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Optional(_) => Type::Optional(Arc::new(Type::Dyn)),
            Value::Type(of) => Type::Type(Arc::new(of.clone())),
            Value::Opaque(opaque) => Type::Opaque(opaque.type_name()),
        }
    }

    /// Whether it is what a value of its type is by default (`optional.ofNonZeroValue`).
    pub fn is_zero(&self) -> bool {
        match self {
            Value::Null | Value::Optional(None) => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(value) => value.is_empty(),
            Value::Bytes(value) => value.is_empty(),
            Value::Duration(value) => value.is_zero(),
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Timestamp(_) | Value::Optional(Some(_)) | Value::Type(_) | Value::Opaque(_) => false,
        }
    }

    /// How large it is, for what working on it costs: characters, elements, entries, or 1.
    pub fn size(&self) -> u64 {
        let size = match self {
            Value::String(value) => value.len(),
            Value::Bytes(value) => value.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            Value::Optional(Some(value)) => return value.size(),
            _ => 1,
        };
        size as u64
    }

    /// The value as JSON; None for what has no form in it.
    pub fn to_json(&self) -> Option<Json> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Uint(value) => (*value).into(),
            Value::Double(value) => serde_json::Number::from_f64(*value)?.into(),
            Value::String(value) => value.as_ref().into(),
            Value::Bytes(value) => STANDARD.encode(value).into(),
            Value::Duration(value) => super::library::time::format_duration(*value).into(),
            Value::Timestamp(value) => value.to_string().into(),
            Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Value::List(list) => list.iter().map(|item| item.to_json()).collect::<Option<Vec<_>>>()?.into(),
            Value::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
            Value::Map(Map::Owned(entries)) => {
                let entry = |(key, value): (&Key, &Value)| match key {
                    Key::String(key) => Some((key.to_string(), value.to_json()?)),
                    _ => None,
                };
                Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Value::Optional(Some(value)) => value.to_json()?,
            Value::Opaque(opaque) => opaque.text()?.into(),
            Value::Optional(None) | Value::Type(_) => return None,
        })
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Owned(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items, schema) => {
                Some(Value::of_json(items.get(index)?, schema.and_then(|schema| schema.items())))
            }
            List::Owned(values) => values.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(fields, _) => fields.len(),
            Map::Owned(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at a key (`map[key]`).
    pub fn get(&self, key: &Key<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Json(fields, schema), Key::String(name)) => {
                let schema = *schema;
                let value = fields.get(name.as_ref())?;
                Some(Value::of_json(value, schema.and_then(|schema| schema.child(name))))
            }
            (Map::Json(..), _) => None,
            (Map::Owned(entries), key) => entries.get(key).cloned(),
        }
    }

    /// The value of a field (`object.name`). Of an object with a schema the name is escaped.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(_, Some(schema)) if schema.has_properties() => self.get(&Key::String(unescape(name)?.into())),
            _ => self.get(&Key::String(name.into())),
        }
    }

    /// Its keys. Those of JSON are texts.
    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Json(fields, _) => fields.keys().map(|key| Key::String(key.as_str().into())).collect(),
            Map::Owned(entries) => entries.keys().cloned().collect(),
        }
    }

    /// Its entries as they are owned, to be added to.
    pub fn to_entries(&self) -> BTreeMap<Key<'a>, Value<'a>> {
        match self {
            Map::Owned(entries) => (**entries).clone(),
            json => json.keys().into_iter().filter_map(|key| json.get(&key).map(|value| (key, value))).collect(),
        }
    }
}
