//! `==`, `<` and `in`.

use std::cmp::Ordering;

use super::value::{List, Map, Value};
use crate::structural::ListType;

/// Whether two values are equal. Values of different types are not, numbers aside. `cost` counts what was compared.
pub fn equal(a: &Value<'_>, b: &Value<'_>, cost: &mut u64) -> bool {
    *cost += 1;
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists_equal(a, b, cost),
        (Value::Map(a), Value::Map(b)) => maps_equal(a, b, cost),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, cost),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Type(a), Value::Type(b)) => a.is(b),
        (Value::Opaque(a), Value::Opaque(b)) => a == b,
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    }
}

/// Lists of type set and map have no order.
fn lists_equal(a: &List<'_>, b: &List<'_>, cost: &mut u64) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let unordered = matches!(a, List::Json(_, Some(schema)) if schema.list_type() != ListType::Atomic);
    if unordered {
        return a.iter().all(|item| b.iter().any(|other| equal(&item, &other, cost)));
    }
    a.iter().zip(b.iter()).all(|(a, b)| equal(&a, &b, cost))
}

fn maps_equal(a: &Map<'_>, b: &Map<'_>, cost: &mut u64) -> bool {
    a.len() == b.len()
        && a.keys().iter().all(|key| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => equal(&a, &b, cost),
            _ => false,
        })
}

/// The order of two numbers, of whatever types. None if one is no number.
fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b)?,
        (Value::Int(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Uint(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b)?,
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64))?,
        (Value::Uint(a), Value::Double(b)) => (*a as f64).partial_cmp(b)?,
        (Value::Double(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64))?,
        _ => return None,
    })
}

/// The order of two values. None if they have none.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => compare_numbers(a, b),
    }
}

/// Whether a list has such an element, in any type of number.
pub fn contains(list: &List<'_>, value: &Value<'_>, cost: &mut u64) -> bool {
    list.iter().any(|item| equal(&item, value, cost))
}
