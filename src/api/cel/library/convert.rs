//! Conversions between types, sizes and the types of values.

use super::super::eval::Error;
use super::super::value::Value;
use super::{Returned, time};

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let [value] = args else { return None };
    Some(match (name, value) {
        ("size", Value::String(text)) => Ok(Value::Int(count(text.chars().count()))),
        ("size", Value::Bytes(_) | Value::List(_) | Value::Map(_)) => Ok(Value::Int(value.size() as i64)),
        ("dyn", value) => Ok(value.clone()),
        ("type", value) => Ok(Value::Type(value.type_of())),
        ("bool", Value::Bool(_)) | ("bytes", Value::Bytes(_)) | ("double", Value::Double(_)) => Ok(value.clone()),
        ("int", Value::Int(_)) | ("string", Value::String(_)) | ("uint", Value::Uint(_)) => Ok(value.clone()),
        ("duration", Value::Duration(_)) | ("timestamp", Value::Timestamp(_)) => Ok(value.clone()),
        ("bool", Value::String(text)) => match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(unconvertible("string", "bool")),
        },
        ("bytes", Value::String(text)) => Ok(Value::Bytes(text.as_bytes().to_vec().into())),
        ("double", Value::Int(value)) => Ok(Value::Double(*value as f64)),
        ("double", Value::Uint(value)) => Ok(Value::Double(*value as f64)),
        ("double", Value::String(text)) => {
            text.parse().map(Value::Double).map_err(|_| unconvertible("string", "double"))
        }
        ("int", value) => return integer(value),
        ("uint", value) => return unsigned(value),
        ("string", value) => return text(value).map(|text| Ok(Value::text(text))),
        ("duration", Value::String(text)) => {
            time::parse_duration(text).map(Value::Duration).ok_or_else(|| unconvertible("string", "duration"))
        }
        ("duration", Value::Int(nanos)) => Ok(Value::Duration(jiff::SignedDuration::from_nanos(*nanos))),
        ("timestamp", Value::String(text)) => {
            text.parse().map(Value::Timestamp).map_err(|_| unconvertible("string", "timestamp"))
        }
        ("timestamp", Value::Int(seconds)) => {
            jiff::Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| time::overflow())
        }
        _ => return None,
    })
}

fn count(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn unconvertible(from: &str, to: &str) -> Error {
    Error::message(format!("type conversion error from '{from}' to '{to}'"))
}

fn range() -> Error {
    Error::message("integer overflow")
}

fn integer<'a>(value: &Value<'a>) -> Returned<'a> {
    Some(match value {
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| range()),
        Value::Double(value)
            if value.is_finite() && *value > -9.223_372_036_854_775e18 && *value < 9.223_372_036_854_775e18 =>
        {
            Ok(Value::Int(*value as i64))
        }
        Value::Double(_) => Err(range()),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| unconvertible("string", "int")),
        Value::Timestamp(at) => Ok(Value::Int(at.as_second())),
        Value::Duration(of) => i64::try_from(of.as_nanos()).map(Value::Int).map_err(|_| range()),
        _ => return None,
    })
}

fn unsigned<'a>(value: &Value<'a>) -> Returned<'a> {
    let overflow = || Error::message("unsigned integer overflow");
    Some(match value {
        Value::Int(value) => u64::try_from(*value).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(value) if *value >= 0.0 && *value < 1.844_674_407_370_955e19 => Ok(Value::Uint(*value as u64)),
        Value::Double(_) => Err(overflow()),
        Value::String(text) => text.parse().map(Value::Uint).map_err(|_| unconvertible("string", "uint")),
        _ => return None,
    })
}

/// The text that `string(x)` makes. None for what has none.
pub fn text(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => crate::number::shortest(*value),
        Value::String(value) => value.to_string(),
        Value::Bytes(value) => String::from_utf8(value.to_vec()).ok()?,
        Value::Duration(value) => time::format_duration(*value),
        Value::Timestamp(value) => value.to_string(),
        Value::Opaque(value) => value.text()?,
        _ => return None,
    })
}

/// A value in an error message.
pub fn show(value: &Value<'_>) -> String {
    text(value).unwrap_or_else(|| type_name(value))
}

/// The name of a value's type, as `type(x)` prints: `list`, not `list(dyn)`.
pub fn type_name(value: &Value<'_>) -> String {
    match value {
        Value::List(_) => "list".to_owned(),
        Value::Map(_) => "map".to_owned(),
        Value::Null => "null_type".to_owned(),
        Value::Optional(_) => "optional_type".to_owned(),
        Value::Type(_) => "type".to_owned(),
        other => other.type_of().to_string(),
    }
}
