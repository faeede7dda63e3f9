//! Operators on numbers, texts, times and lists.

use std::sync::Arc;

use super::super::equality::compare;
use super::super::eval::Error;
use super::super::value::{Key, List, Map, Value};
use super::{Returned, time};
use crate::structural::ListType;

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    Some(match (name, args) {
        ("_+_", [a, b]) => return add(a, b),
        ("_-_", [a, b]) => return subtract(a, b),
        ("_*_", [Value::Int(a), Value::Int(b)]) => a.checked_mul(*b).map(Value::Int).ok_or_else(int_overflow),
        ("_*_", [Value::Uint(a), Value::Uint(b)]) => a.checked_mul(*b).map(Value::Uint).ok_or_else(uint_overflow),
        ("_*_", [Value::Double(a), Value::Double(b)]) => Ok(Value::Double(a * b)),
        ("_/_", [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)]) => {
            Err(Error::message("division by zero"))
        }
        ("_/_", [Value::Int(a), Value::Int(b)]) => a.checked_div(*b).map(Value::Int).ok_or_else(int_overflow),
        ("_/_", [Value::Uint(a), Value::Uint(b)]) => Ok(Value::Uint(a / b)),
        ("_/_", [Value::Double(a), Value::Double(b)]) => Ok(Value::Double(a / b)),
        ("_%_", [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)]) => {
            Err(Error::message("modulus by zero"))
        }
        ("_%_", [Value::Int(a), Value::Int(b)]) => a.checked_rem(*b).map(Value::Int).ok_or_else(int_overflow),
        ("_%_", [Value::Uint(a), Value::Uint(b)]) => Ok(Value::Uint(a % b)),
        ("-_", [Value::Int(a)]) => a.checked_neg().map(Value::Int).ok_or_else(int_overflow),
        ("-_", [Value::Double(a)]) => Ok(Value::Double(-a)),
        ("!_", [Value::Bool(a)]) => Ok(Value::Bool(!a)),
        ("_<_", [a, b]) => compared(a, b, |order| order.is_lt())?,
        ("_<=_", [a, b]) => compared(a, b, |order| order.is_le())?,
        ("_>_", [a, b]) => compared(a, b, |order| order.is_gt())?,
        ("_>=_", [a, b]) => compared(a, b, |order| order.is_ge())?,
        ("cel.@mapInsert", [Value::Map(map), rest @ ..]) => inserted(map, rest),
        _ => return None,
    })
}

fn int_overflow() -> Error {
    Error::message("integer overflow")
}

fn uint_overflow() -> Error {
    Error::message("unsigned integer overflow")
}

fn compared<'a>(
    a: &Value<'a>,
    b: &Value<'a>,
    is: impl FnOnce(std::cmp::Ordering) -> bool,
) -> Option<Result<Value<'a>, Error>> {
    // What is no number has no order.
    if matches!((a, b), (Value::Double(a), _) | (_, Value::Double(a)) if a.is_nan()) {
        return Some(Ok(Value::Bool(false)));
    }
    compare(a, b).map(|order| Ok(Value::Bool(is(order))))
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Returned<'a> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(int_overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint).ok_or_else(uint_overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::text(format!("{a}{b}"))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([a.as_ref(), b.as_ref()].concat().into())),
        (Value::Duration(a), Value::Duration(b)) => a.checked_add(*b).map(Value::Duration).ok_or_else(time::overflow),
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            at.checked_add(*by).map(Value::Timestamp).map_err(|_| time::overflow())
        }
        (Value::List(a), Value::List(b)) => Ok(joined(a, b)),
        (Value::Map(Map::Json(_, Some(schema))), Value::Map(_)) if schema.has_properties() => return None,
        _ => return None,
    })
}

fn subtract<'a>(a: &Value<'a>, b: &Value<'a>) -> Returned<'a> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int).ok_or_else(int_overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_sub(*b).map(Value::Uint).ok_or_else(uint_overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration).ok_or_else(time::overflow),
        (Value::Timestamp(at), Value::Duration(by)) => {
            at.checked_sub(*by).map(Value::Timestamp).map_err(|_| time::overflow())
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(Value::Duration(a.duration_since(*b))),
        _ => return None,
    })
}

/// One list after the other; sets and lists with keys are united: of what is in both, the second's stays.
fn joined<'a>(a: &List<'a>, b: &List<'a>) -> Value<'a> {
    let schema = match a {
        List::Json(_, Some(schema)) => Some(*schema),
        _ => None,
    };
    let same = |one: &Value<'a>, other: &Value<'a>| match schema.map(|schema| schema.list_type()) {
        Some(ListType::Set) => super::super::equality::equal(one, other, &mut 0),
        Some(ListType::Map) => schema.is_some_and(|schema| {
            schema.map_keys().iter().all(|key| match (one, other) {
                (Value::Map(one), Value::Map(other)) => match (one.field(key), other.field(key)) {
                    (Some(one), Some(other)) => super::super::equality::equal(&one, &other, &mut 0),
                    (one, other) => one.is_none() && other.is_none(),
                },
                _ => false,
            })
        }),
        _ => false,
    };
    // A list that a comprehension builds grows in place as long as nobody else has it.
    let mut values: Vec<Value<'a>> = a.iter().collect();
    for item in b.iter() {
        match values.iter_mut().find(|value| same(value, &item)) {
            Some(value) => *value = item,
            None => values.push(item),
        }
    }
    Value::list(values)
}

fn inserted<'a>(map: &Map<'a>, rest: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let mut entries = map.to_entries();
    let mut insert = |key: Key<'a>, value: Value<'a>| match entries.insert(key.clone(), value) {
        None => Ok(()),
        Some(_) => {
            Err(Error::message(format!("insert failed: key {} already exists", super::convert::show(&key.value()))))
        }
    };
    match rest {
        [key, value] => insert(Key::of(key).ok_or_else(Error::no_such_overload)?, value.clone())?,
        [Value::Map(other)] => other.to_entries().into_iter().try_for_each(|(key, value)| insert(key, value))?,
        _ => return Err(Error::no_such_overload()),
    }
    Ok(Value::Map(Map::Owned(Arc::new(entries))))
}
