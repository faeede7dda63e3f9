//! `matches`, `find` and `findAll`.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::{Mutex, PoisonError};

use ::regex::Regex;

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;

pub const DECLARATIONS: &str = "
string.find(string) -> string
string.findAll(string) -> list(string)
string.findAll(string, int) -> list(string)
";

/// As many compiled expressions are kept.
const KEPT: usize = 128;

static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let (text, pattern) = match args {
        [Value::String(text), Value::String(pattern), ..] => (text, pattern),
        _ => return None,
    };
    if !matches!(name, "matches" | "find" | "findAll") {
        return None;
    }
    let regex = match compiled(pattern) {
        Ok(regex) => regex,
        Err(error) => return Some(Err(error)),
    };
    let found = |limit: usize| {
        Value::list(regex.find_iter(text).take(limit).map(|found| Value::text(found.as_str().to_owned())).collect())
    };
    Some(Ok(match (name, args.get(2)) {
        ("matches", None) => Value::Bool(regex.is_match(text)),
        ("find", None) => Value::text(regex.find(text).map_or("", |found| found.as_str()).to_owned()),
        ("findAll", None) => found(usize::MAX),
        ("findAll", Some(Value::Int(limit))) => found(usize::try_from(*limit).unwrap_or(usize::MAX)),
        _ => return None,
    }))
}

fn compiled(pattern: &str) -> Result<Regex, Error> {
    let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = kept.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = crate::go_regex::compile(pattern).map_err(|error| Error::message(error.to_string()))?;
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}
