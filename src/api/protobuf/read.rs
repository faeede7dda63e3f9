//! Messages read into JSON values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Error;
use super::table::{Element, Field, Message, Shape};
use super::wire::{Wire, varint};
use crate::number::integral;
use crate::time::format_seconds;

/// Messages in messages, no deeper than this. (Schemas of custom resources are the deepest there are.)
const MAX_DEPTH: usize = 200;

/// A string.
pub(super) fn text(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Malformed("string field contains invalid UTF-8"))
}

/// Reads a message's fields into those of an object. Fields that are not known are skipped.
pub(super) fn message(bytes: &[u8], of: &Message, into: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    for field in Wire::fields(bytes) {
        let (number, wire) = field?;
        let Some(field) = of.fields().iter().find(|field| u32::from(field.number) == number) else { continue };
        match (field.shape, field.element, wire) {
            (_, Element::Inline, Wire::Bytes(bytes)) => message(bytes, field.message(), into, depth + 1)?,
            // What is sent in two parts is one message.
            (Shape::One, Element::Message, Wire::Bytes(bytes)) => {
                let inner = into.entry(field.name()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(inner) = inner {
                    message(bytes, field.message(), inner, depth + 1)?;
                }
            }
            (Shape::One, _, wire) => {
                into.insert(field.name().to_owned(), one(field, wire, depth)?);
            }
            (Shape::List, _, wire) => {
                let list = into.entry(field.name()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    append(field, wire, list, depth)?;
                }
            }
            (Shape::Map, _, Wire::Bytes(bytes)) => {
                let (key, value) = entry(field, bytes, depth)?;
                let map = into.entry(field.name()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            (Shape::Map, _, wire) => return Err(wrong_type(field, wire)),
        }
    }
    Ok(())
}

/// As Go says it, whose fields are those of JSON with a capital letter.
fn wrong_type(field: &Field, wire: Wire<'_>) -> Error {
    let mut name = field.name().to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Error::WrongType { wire: wire.number(), field: name }
}

fn append(field: &Field, wire: Wire<'_>, list: &mut Vec<Value>, depth: usize) -> Result<(), Error> {
    match (field.element, wire) {
        // Numbers may come packed.
        (Element::Integer, Wire::Bytes(mut packed)) => {
            while !packed.is_empty() {
                list.push((varint(&mut packed)?.cast_signed()).into());
            }
        }
        _ => list.push(one(field, wire, depth)?),
    }
    Ok(())
}

/// An entry of a map: a message of a key and a value.
fn entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), None);
    for part in Wire::fields(bytes) {
        match part? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => value = Some(one(field, wire, depth)?),
            _ => {}
        }
    }
    // An empty value need not be sent.
    let value = match (value, field.element) {
        (Some(value), _) => value,
        (None, Element::Bool) => false.into(),
        (None, Element::Integer | Element::Double) => 0.into(),
        (None, _) => one(field, Wire::Bytes(b""), depth)?,
    };
    Ok((key, value))
}

fn one(field: &Field, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    match (field.element, wire) {
        (Element::String, Wire::Bytes(bytes)) => text(bytes).map(Value::from),
        (Element::Bytes, Wire::Bytes(bytes)) => Ok(BASE64.encode(bytes).into()),
        (Element::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        // Negative numbers of 32 bits are sent with 64.
        (Element::Integer, Wire::Varint(number)) => Ok(number.cast_signed().into()),
        (Element::Double, Wire::Fixed64(bits)) => {
            let number = f64::from_bits(bits);
            Ok(integral(number).map_or_else(|| number.into(), Value::from))
        }
        (Element::Message | Element::Inline, Wire::Bytes(bytes)) => {
            let mut fields = Map::new();
            message(bytes, field.message(), &mut fields, depth + 1)?;
            Ok(Value::Object(fields))
        }
        (Element::Time, Wire::Bytes(bytes)) => Ok(time(bytes)?.map_or(Value::Null, |time| format_seconds(time).into())),
        (Element::MicroTime, Wire::Bytes(bytes)) => {
            Ok(time(bytes)?.map_or(Value::Null, |time| format!("{time:.6}").into()))
        }
        (Element::Quantity, Wire::Bytes(bytes)) => match Wire::fields(bytes).next().transpose()? {
            Some((1, Wire::Bytes(bytes))) => text(bytes).map(Value::from),
            _ => Ok("0".into()),
        },
        (Element::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Element::Raw, Wire::Bytes(bytes)) => match Wire::fields(bytes).next().transpose()? {
            Some((1, Wire::Bytes(json))) if !json.is_empty() => {
                serde_json::from_slice(json).map_err(|_| Error::Malformed("embedded JSON cannot be read"))
            }
            _ => Ok(Value::Null),
        },
        (Element::Strings, Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            for part in Wire::fields(bytes) {
                if let (1, Wire::Bytes(bytes)) = part? {
                    list.push(Value::from(text(bytes)?));
                }
            }
            Ok(list.into())
        }
        (Element::Either, Wire::Bytes(bytes)) => either(bytes, field.message(), depth),
        _ => Err(wrong_type(field, wire)),
    }
}

/// Seconds and nanoseconds since 1970; none for the zero time, which Go writes as nothing, or as two zeros.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, Error> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Wire::fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = number.cast_signed(),
            (2, Wire::Varint(number)) => {
                nanos = i32::try_from(number.cast_signed()).map_err(|_| Error::Malformed("a time is out of range"))?;
            }
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(None);
    }
    Timestamp::new(seconds, nanos).map(Some).map_err(|_| Error::Malformed("a time is out of range"))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in Wire::fields(bytes) {
        match field? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

/// A schema, or what may stand in its place: a boolean, or a list.
fn either(bytes: &[u8], of: &Message, depth: usize) -> Result<Value, Error> {
    let mut fields = Map::new();
    message(bytes, of, &mut fields, depth + 1)?;
    let is_bool = of.fields().iter().any(|field| field.element == Element::Bool);
    let other = fields.keys().find(|name| *name != "schema").cloned();
    let other = other.and_then(|name| fields.remove(&name));
    Ok(match fields.remove("schema") {
        Some(schema) => schema,
        None => other.unwrap_or(if is_bool { false.into() } else { Value::Null }),
    })
}
