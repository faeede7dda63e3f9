//! The functions of the language, of cel-go's extensions that Kubernetes switches on, and of Kubernetes itself.
//!
//! Each file says what its functions are called and of what types they are (see [`super::declarations`]), and has one
//! function that runs them by name. Which arguments there are was checked before; what was dynamic then is checked by
//! matching on the values.

mod arithmetic;
pub mod authorizer;
pub mod convert;
mod format;
mod lists;
mod net;
pub mod opaque;
mod optional;
mod quantity;
mod regex;
mod semver;
mod sets;
mod strings;
mod strings_format;
pub mod time;
mod url;

use super::eval::{Activation, Error};
use super::value::Value;

/// The declarations of all files here.
pub const DECLARATIONS: [&str; 11] = [
    authorizer::DECLARATIONS,
    format::DECLARATIONS,
    lists::DECLARATIONS,
    net::DECLARATIONS,
    quantity::DECLARATIONS,
    regex::DECLARATIONS,
    semver::DECLARATIONS,
    sets::DECLARATIONS,
    strings::DECLARATIONS,
    url::DECLARATIONS,
    optional::DECLARATIONS,
];

/// What a function gives.
type Returned<'a> = Option<Result<Value<'a>, Error>>;

/// Calls a function, the target of a method first. None if there is none of that name for these arguments.
pub fn call<'a>(name: &str, args: &[Value<'a>], activation: &Activation<'a>) -> Returned<'a> {
    let cost = cost(name, args);
    if let Err(error) = activation.charge(cost) {
        return Some(Err(error));
    }
    None.or_else(|| arithmetic::call(name, args))
        .or_else(|| convert::call(name, args))
        .or_else(|| strings::call(name, args))
        .or_else(|| lists::call(name, args, activation))
        .or_else(|| optional::call(name, args))
        .or_else(|| time::call(name, args))
        .or_else(|| regex::call(name, args))
        .or_else(|| sets::call(name, args, activation))
        .or_else(|| quantity::call(name, args))
        .or_else(|| net::call(name, args))
        .or_else(|| url::call(name, args))
        .or_else(|| format::call(name, args))
        .or_else(|| semver::call(name, args))
        .or_else(|| authorizer::call(name, args, activation))
}

/// Whether a text is a URL, as `isURL(text)` has it.
pub fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_some()
}

/// What a call costs beyond being one: a tenth of the characters it reads, each element it looks at; an answer of the
/// authorizer is by far the most expensive. (Kubernetes: `CostEstimator.CallCost`.)
fn cost(name: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    let tenth = |size: u64| size.div_ceil(10);
    match name {
        "check" => 350_000,
        "matches" | "find" | "findAll" => tenth(size(0) + 1) * size(1).div_ceil(4).max(1),
        "contains" | "indexOf" | "lastIndexOf" | "replace" | "split" => tenth(size(0)) * tenth(size(1)).max(1),
        "_+_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => tenth(size(0) + size(1)),
            Some(Value::List(_)) => 1,
            _ => 0,
        },
        "startsWith" | "endsWith" => tenth(size(1)),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => size(0) * size(1),
        "distinct" => size(0) * size(0) / 2,
        "isSorted" | "sum" | "min" | "max" | "flatten" | "sort" | "reverse" | "slice" | "join" | "lists.range" => {
            size(0)
        }
        _ => args.iter().map(|arg| if matches!(arg, Value::String(_)) { tenth(arg.size()) } else { 0 }).sum(),
    }
}
