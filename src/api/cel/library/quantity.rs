//! Quantities of resources.

use std::sync::Arc;

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;
use crate::quantity::{Format, Quantity};

pub const DECLARATIONS: &str = "
quantity(string) -> kubernetes.Quantity
isQuantity(string) -> bool
kubernetes.Quantity.sign() -> int
kubernetes.Quantity.isInteger() -> bool
kubernetes.Quantity.asInteger() -> int
kubernetes.Quantity.asApproximateFloat() -> double
kubernetes.Quantity.add(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity.add(int) -> kubernetes.Quantity
kubernetes.Quantity.sub(kubernetes.Quantity) -> kubernetes.Quantity
kubernetes.Quantity.sub(int) -> kubernetes.Quantity
kubernetes.Quantity.isLessThan(kubernetes.Quantity) -> bool
kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) -> bool
kubernetes.Quantity.compareTo(kubernetes.Quantity) -> int
";

fn wrap<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Arc::new(Opaque::Quantity(quantity)))
}

fn of(value: &Value<'_>) -> Option<Quantity> {
    match value {
        Value::Opaque(opaque) => match **opaque {
            Opaque::Quantity(quantity) => Some(quantity),
            _ => None,
        },
        Value::Int(units) => Some(Quantity::from_units(*units, Format::DecimalSi)),
        _ => None,
    }
}

fn is_integer(quantity: Quantity) -> bool {
    Quantity::from_units(quantity.value(), Format::DecimalSi) == quantity
}

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    if let [Value::String(text)] = args {
        return match name {
            "quantity" => {
                Some(text.parse().map(wrap).map_err(|error: crate::quantity::Error| Error::message(error.to_string())))
            }
            "isQuantity" => Some(Ok(Value::Bool(text.parse::<Quantity>().is_ok()))),
            _ => None,
        };
    }
    let own = match args.first()? {
        Value::Opaque(opaque) => match **opaque {
            Opaque::Quantity(quantity) => quantity,
            _ => return None,
        },
        _ => return None,
    };
    Some(Ok(match (name, args.get(1).map(of)) {
        ("sign", None) => Value::Int(i64::from(!own.is_zero()) * if own.is_negative() { -1 } else { 1 }),
        ("isInteger", None) => Value::Bool(is_integer(own)),
        ("asInteger", None) if is_integer(own) => Value::Int(own.value()),
        ("asInteger", None) => return Some(Err(Error::message("cannot convert value to integer"))),
        ("asApproximateFloat", None) => Value::Double(own.as_f64()),
        ("add", Some(Some(other))) => wrap(own + other),
        ("sub", Some(Some(other))) => wrap(own - other),
        ("isLessThan", Some(Some(other))) => Value::Bool(own < other),
        ("isGreaterThan", Some(Some(other))) => Value::Bool(own > other),
        ("compareTo", Some(Some(other))) => Value::Int(own.cmp(&other) as i64),
        _ => return None,
    }))
}
