//! Optionals: values that may be absent.

use super::super::eval::{Error, unwrapped};
use super::super::value::Value;
use super::Returned;

/// Those of the language itself are declared with it.
pub const DECLARATIONS: &str = "";

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    Some(Ok(match (name, args) {
        ("optional.of", [value]) => Value::some(value.clone()),
        ("optional.ofNonZeroValue", [value]) if value.is_zero() => Value::Optional(None),
        ("optional.ofNonZeroValue", [value]) => Value::some(value.clone()),
        ("optional.none", []) => Value::Optional(None),
        ("hasValue", [Value::Optional(value)]) => Value::Bool(value.is_some()),
        ("value", [Value::Optional(Some(value))]) => (**value).clone(),
        ("value", [Value::Optional(None)]) => return Some(Err(Error::message("optional.none() dereference"))),
        ("or", [Value::Optional(None), other]) => other.clone(),
        ("or", [some @ Value::Optional(_), _]) => some.clone(),
        ("orValue", [Value::Optional(None), other]) => other.clone(),
        ("orValue", [Value::Optional(Some(value)), _]) => (**value).clone(),
        ("first", [Value::List(list)]) => Value::Optional(list.get(0).map(Into::into)),
        ("last", [Value::List(list)]) => {
            let last = list.len().checked_sub(1).and_then(|index| list.get(index));
            Value::Optional(last.map(Into::into))
        }
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => unwrapped(list),
        _ => return None,
    }))
}
