//! Messages read into JSON values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{Wire, varint};
use super::{Element, Error, Field, MESSAGES, Message, Shape};
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
        let Some(field) = of.fields.iter().find(|field| field.number == number) else { continue };
        match (field.shape, field.element, wire) {
            (_, Element::Inline(inner), Wire::Bytes(bytes)) => message(bytes, &MESSAGES[inner], into, depth + 1)?,
            (Shape::One, element, wire) => {
                into.insert(field.name.to_owned(), one(element, wire, depth)?);
            }
            (Shape::List, element, wire) => {
                let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    append(field, element, wire, list, depth)?;
                }
            }
            (Shape::Map, element, Wire::Bytes(bytes)) => {
                let (key, value) = entry(element, bytes, depth)?;
                let map = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            (Shape::Map, ..) => return Err(Error::Malformed("wrong wire type of a map's entry")),
        }
    }
    Ok(())
}

fn append(field: &Field, element: Element, wire: Wire<'_>, list: &mut Vec<Value>, depth: usize) -> Result<(), Error> {
    match (element, wire) {
        // Numbers may come packed.
        (Element::Integer, Wire::Bytes(mut packed)) => {
            while !packed.is_empty() {
                list.push((varint(&mut packed)?.cast_signed()).into());
            }
        }
        _ => list.push(one(element, wire, depth)?),
    }
    debug_assert!(field.shape == Shape::List);
    Ok(())
}

/// An entry of a map: a message of a key and a value.
fn entry(element: Element, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), None);
    for field in Wire::fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => value = Some(one(element, wire, depth)?),
            _ => {}
        }
    }
    // An empty value is not sent.
    let value = match value {
        Some(value) => value,
        None => one(element, Wire::Bytes(b""), depth)?,
    };
    Ok((key, value))
}

fn one(element: Element, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    match (element, wire) {
        (Element::String, Wire::Bytes(bytes)) => text(bytes).map(Value::from),
        (Element::Bytes, Wire::Bytes(bytes)) => Ok(BASE64.encode(bytes).into()),
        (Element::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
        // Negative numbers of 32 bits are sent with 64.
        (Element::Integer, Wire::Varint(number)) => Ok(number.cast_signed().into()),
        (Element::Double, Wire::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Element::Message(inner) | Element::Inline(inner), Wire::Bytes(bytes)) => {
            let mut fields = Map::new();
            message(bytes, &MESSAGES[inner], &mut fields, depth + 1)?;
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
            Some((1, Wire::Bytes(json))) => {
                serde_json::from_slice(json).map_err(|_| Error::Malformed("embedded JSON cannot be read"))
            }
            _ => Ok(Value::Null),
        },
        (Element::Strings, Wire::Bytes(bytes)) => {
            let mut list = Vec::new();
            for field in Wire::fields(bytes) {
                if let (1, Wire::Bytes(bytes)) = field? {
                    list.push(Value::from(text(bytes)?));
                }
            }
            Ok(list.into())
        }
        (Element::Either(inner), Wire::Bytes(bytes)) => either(bytes, &MESSAGES[inner], depth),
        _ => Err(Error::Malformed("wrong wire type of a field")),
    }
}

/// Seconds and nanoseconds since 1970; none for the zero time.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, Error> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Wire::fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Varint(number)) => nanos = i32::try_from(number.cast_signed()).unwrap_or_default(),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(None) };
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
    match fields.remove("schema") {
        Some(schema) => Ok(schema),
        None => Ok(fields.into_iter().next().map_or(Value::Null, |(_, value)| value)),
    }
}
