//! Texts: the language's own functions, cel-go's `ext.Strings`, and `jsonpatch.escapeKey`.

use super::super::eval::Error;
use super::super::value::{List, Value};
use super::Returned;
use super::strings_format;

pub const DECLARATIONS: &str = "
string.charAt(int) -> string
string.indexOf(string) -> int
string.indexOf(string, int) -> int
string.lastIndexOf(string) -> int
string.lastIndexOf(string, int) -> int
string.lowerAscii() -> string
string.upperAscii() -> string
string.replace(string, string) -> string
string.replace(string, string, int) -> string
string.split(string) -> list(string)
string.split(string, int) -> list(string)
string.substring(int) -> string
string.substring(int, int) -> string
string.trim() -> string
string.reverse() -> string
string.format(list(dyn)) -> string
list(string).join() -> string
list(string).join(string) -> string
jsonpatch.escapeKey(string) -> string
";

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let text = |text: String| Some(Ok(Value::text(text)));
    match (name, args) {
        ("contains", [Value::String(own), Value::String(part)]) => Some(Ok(Value::Bool(own.contains(&**part)))),
        ("startsWith", [Value::String(own), Value::String(part)]) => Some(Ok(Value::Bool(own.starts_with(&**part)))),
        ("endsWith", [Value::String(own), Value::String(part)]) => Some(Ok(Value::Bool(own.ends_with(&**part)))),
        ("lowerAscii", [Value::String(own)]) => text(own.to_ascii_lowercase()),
        ("upperAscii", [Value::String(own)]) => text(own.to_ascii_uppercase()),
        ("trim", [Value::String(own)]) => text(own.trim().to_owned()),
        ("reverse", [Value::String(own)]) => text(own.chars().rev().collect()),
        ("jsonpatch.escapeKey", [Value::String(own)]) => text(own.replace('~', "~0").replace('/', "~1")),
        ("replace", [Value::String(own), Value::String(from), Value::String(to)]) => {
            Some(replaced(own, from, to, None))
        }
        ("replace", [Value::String(own), Value::String(from), Value::String(to), Value::Int(limit)]) => {
            Some(replaced(own, from, to, usize::try_from(*limit).ok()))
        }
        ("split", [Value::String(own), Value::String(by)]) => Some(Ok(split(own, by, None))),
        ("split", [Value::String(own), Value::String(by), Value::Int(limit)]) => {
            Some(Ok(split(own, by, usize::try_from(*limit).ok())))
        }
        ("format", [Value::String(own), Value::List(list)]) => Some(strings_format::format(own, list).map(Value::text)),
        ("join", [Value::List(list)]) => Some(join(list, "")),
        ("join", [Value::List(list), Value::String(by)]) => Some(join(list, by)),
        ("charAt" | "substring" | "indexOf" | "lastIndexOf", [Value::String(own), ..]) => by_character(name, own, args),
        _ => None,
    }
}

/// What counts characters.
fn by_character<'a>(name: &str, own: &str, args: &[Value<'a>]) -> Returned<'a> {
    let chars: Vec<char> = own.chars().collect();
    let out = |index: i64| Err(Error::message(format!("index out of range: {index}")));
    let within = |index: i64| usize::try_from(index).ok().filter(|index| *index <= chars.len());
    Some(match (name, &args[1..]) {
        ("charAt", [Value::Int(index)]) => match within(*index) {
            Some(at) => Ok(Value::text(chars.get(at).map(char::to_string).unwrap_or_default())),
            None => out(*index),
        },
        ("substring", [Value::Int(start)]) => match within(*start) {
            Some(start) => Ok(Value::text(chars[start..].iter().collect::<String>())),
            None => out(*start),
        },
        ("substring", [Value::Int(start), Value::Int(end)]) => match (within(*start), within(*end)) {
            (Some(from), Some(to)) if from <= to => Ok(Value::text(chars[from..to].iter().collect::<String>())),
            (Some(_), Some(_)) => Err(Error::message(format!("invalid substring range. start: {start}, end: {end}"))),
            (None, _) => out(*start),
            (_, None) => out(*end),
        },
        ("indexOf" | "lastIndexOf", [Value::String(part), rest @ ..]) => {
            let part: Vec<char> = part.chars().collect();
            let bound = match rest {
                [] => None,
                [Value::Int(index)] => match within(*index) {
                    Some(at) => Some(at),
                    None => return Some(out(*index)),
                },
                _ => return None,
            };
            Ok(Value::Int(position(&chars, &part, name == "lastIndexOf", bound)))
        }
        _ => return None,
    })
}

/// Where a part begins: searched from `bound` on, or backwards from it.
fn position(chars: &[char], part: &[char], last: bool, bound: Option<usize>) -> i64 {
    let Some(latest) = chars.len().checked_sub(part.len()) else { return -1 };
    let found = match last {
        false => (bound.unwrap_or(0)..=latest).find(|at| chars[*at..].starts_with(part)),
        true => (0..=bound.unwrap_or(latest).min(latest)).rev().find(|at| chars[*at..].starts_with(part)),
    };
    found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)
}

/// As much text may a function make: a budget counts what is read, and this what is written.
const LARGEST: usize = 3 << 20;

fn replaced<'a>(own: &str, from: &str, to: &str, limit: Option<usize>) -> Result<Value<'a>, Error> {
    let count = own.matches(from).take(limit.unwrap_or(usize::MAX)).count();
    if own.len().saturating_add(count.saturating_mul(to.len())) > LARGEST {
        return Err(Error::Cost);
    }
    Ok(Value::text(own.replacen(from, to, count)))
}

fn split<'a>(own: &str, by: &str, limit: Option<usize>) -> Value<'a> {
    let value = |part: &str| Value::text(part.to_owned());
    let parts: Vec<Value<'a>> = match (limit, by) {
        (Some(0), _) => Vec::new(),
        // By nothing: into characters.
        (None, "") => own.chars().map(|c| Value::text(c.to_string())).collect(),
        (Some(limit), "") => {
            let mut chars = own.chars();
            let mut parts: Vec<Value<'a>> =
                chars.by_ref().take(limit - 1).map(|c| Value::text(c.to_string())).collect();
            parts.extend(Some(chars.as_str()).filter(|rest| !rest.is_empty()).map(value));
            parts
        }
        (None, by) => own.split(by).map(value).collect(),
        (Some(limit), by) => own.splitn(limit, by).map(value).collect(),
    };
    Value::list(parts)
}

fn join<'a>(list: &List<'a>, by: &str) -> Result<Value<'a>, Error> {
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let Value::String(item) = item else { return Err(Error::no_such_overload()) };
        if index > 0 {
            joined.push_str(by);
        }
        joined.push_str(&item);
        if joined.len() > LARGEST {
            return Err(Error::Cost);
        }
    }
    Ok(Value::text(joined))
}
