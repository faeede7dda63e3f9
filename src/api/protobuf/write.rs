//! JSON values written as messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Error;
use super::table::{Element, Field, Message, Shape};
use super::writer::Writer;

/// Writes the fields of an object that its message has. What is absent or null is not written: for Go that is the zero
/// value of its type, as in JSON.
pub(super) fn message(out: &mut Writer, of: &Message, object: &Map<String, Value>) -> Result<(), Error> {
    for field in of.fields().iter().rev() {
        if field.element == Element::Inline {
            let end = out.len();
            message(out, field.message(), object)?;
            if out.len() > end {
                out.close(field.number, end);
            }
            continue;
        }
        match (field.shape, object.get(field.name())) {
            (_, None | Some(Value::Null)) => {}
            (Shape::One, Some(value)) => one(out, field, field.number, value)?,
            (Shape::List, Some(Value::Array(items))) => {
                for item in items.iter().rev() {
                    one(out, field, field.number, item)?;
                }
            }
            (Shape::Map, Some(Value::Object(entries))) => {
                for (key, value) in entries.iter().rev() {
                    let end = out.len();
                    one(out, field, 2, value)?;
                    out.bytes_field(1, key.as_bytes());
                    out.close(field.number, end);
                }
            }
            _ => return Err(mismatch(field)),
        }
    }
    Ok(())
}

fn mismatch(field: &Field) -> Error {
    Error::Mismatch { field: field.name() }
}

/// Writes a value as the field `number`. A null, which only a list or a map can have here, is the zero value.
fn one(out: &mut Writer, field: &Field, number: u8, value: &Value) -> Result<(), Error> {
    let end = out.len();
    match (field.element, value) {
        (Element::String, Value::String(text)) => out.bytes_field(number, text.as_bytes()),
        (Element::Bytes, Value::String(text)) => {
            out.bytes_field(number, &BASE64.decode(text).map_err(|_| mismatch(field))?);
        }
        (Element::Bool, Value::Bool(value)) => out.varint_field(number, u64::from(*value)),
        (Element::Integer, Value::Number(_)) => {
            out.varint_field(number, integer(value).ok_or_else(|| mismatch(field))?.cast_unsigned());
        }
        (Element::Double, Value::Number(value)) => {
            out.fixed64_field(number, value.as_f64().unwrap_or_default().to_bits());
        }
        (Element::Bool | Element::Integer, Value::Null) => out.varint_field(number, 0),
        (Element::Double, Value::Null) => out.fixed64_field(number, 0),
        (_, Value::Null) => out.bytes_field(number, b""),
        (Element::Message, Value::Object(object)) => {
            message(out, field.message(), object)?;
            out.close(number, end);
        }
        (Element::Time | Element::MicroTime, Value::String(text)) => {
            let time: Timestamp = text.parse().map_err(|_| mismatch(field))?;
            // Go writes whole seconds, and whole microseconds.
            let nanos = if field.element == Element::Time { 0 } else { time.subsec_microsecond() * 1000 };
            out.varint_field(2, i64::from(nanos).cast_unsigned());
            out.varint_field(1, time.as_second().cast_unsigned());
            out.close(number, end);
        }
        (Element::Quantity, Value::String(text)) => {
            out.bytes_field(1, text.as_bytes());
            out.close(number, end);
        }
        (Element::Quantity, Value::Number(amount)) => {
            out.bytes_field(1, amount.to_string().as_bytes());
            out.close(number, end);
        }
        (Element::IntOrString, Value::Number(_)) => {
            int_or_string(out, 0, integer(value).ok_or_else(|| mismatch(field))?, "");
            out.close(number, end);
        }
        (Element::IntOrString, Value::String(text)) => {
            int_or_string(out, 1, 0, text);
            out.close(number, end);
        }
        (Element::Raw, value) => {
            out.bytes_field(1, value.to_string().as_bytes());
            out.close(number, end);
        }
        (Element::Strings, Value::Array(items)) => {
            for item in items.iter().rev() {
                let text = if item.is_null() { Some("") } else { item.as_str() };
                out.bytes_field(1, text.ok_or_else(|| mismatch(field))?.as_bytes());
            }
            out.close(number, end);
        }
        (Element::Either, value) => {
            either(out, field.message(), value)?;
            out.close(number, end);
        }
        _ => return Err(mismatch(field)),
    }
    Ok(())
}

/// Go's decoder takes 1.0 for an integer, too.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| crate::number::integral(value.as_f64()?))
}

fn int_or_string(out: &mut Writer, kind: u64, number: i64, text: &str) {
    out.bytes_field(3, text.as_bytes());
    out.varint_field(2, number.cast_unsigned());
    out.varint_field(1, kind);
}

/// A schema, or what stands in its place: a boolean, or a list. Where a boolean may stand, a schema allows what it
/// describes.
fn either(out: &mut Writer, of: &Message, value: &Value) -> Result<(), Error> {
    let is_schema = value.is_object();
    for field in of.fields().iter().rev() {
        match (field.name() == "schema", field.element, value) {
            (true, _, value) if is_schema => one(out, field, field.number, value)?,
            (false, Element::Bool, _) if is_schema => out.varint_field(field.number, 1),
            (false, Element::Bool, value @ Value::Bool(_)) => one(out, field, field.number, value)?,
            (false, _, Value::Array(items)) if field.shape == Shape::List => {
                for item in items.iter().rev() {
                    one(out, field, field.number, item)?;
                }
            }
            // What is neither is nothing, for Go too.
            _ => {}
        }
    }
    Ok(())
}
