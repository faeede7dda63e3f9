//! Lists as sets.

use super::super::equality::contains;
use super::super::eval::Activation;
use super::super::value::{List, Value};
use super::Returned;

pub const DECLARATIONS: &str = "
sets.contains(list(A), list(A)) -> bool
sets.equivalent(list(A), list(A)) -> bool
sets.intersects(list(A), list(A)) -> bool
";

pub fn call<'a>(name: &str, args: &[Value<'a>], activation: &Activation<'a>) -> Returned<'a> {
    let [Value::List(a), Value::List(b)] = args else { return None };
    let mut cost = 0;
    let mut all = |a: &List<'a>, b: &List<'a>| b.iter().all(|item| contains(a, &item, &mut cost));
    let value = match name {
        "sets.contains" => all(a, b),
        "sets.equivalent" => all(a, b) && all(b, a),
        "sets.intersects" => b.iter().any(|item| contains(a, &item, &mut cost)),
        _ => return None,
    };
    Some(activation.charge(cost).map(|()| Value::Bool(value)))
}
