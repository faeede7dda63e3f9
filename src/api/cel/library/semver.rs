//! Semantic versions.

use std::sync::Arc;

use semver::Version;

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;

pub const DECLARATIONS: &str = "
semver(string) -> kubernetes.Semver
semver(string, bool) -> kubernetes.Semver
isSemver(string) -> bool
isSemver(string, bool) -> bool
kubernetes.Semver.major() -> int
kubernetes.Semver.minor() -> int
kubernetes.Semver.patch() -> int
kubernetes.Semver.isLessThan(kubernetes.Semver) -> bool
kubernetes.Semver.isGreaterThan(kubernetes.Semver) -> bool
kubernetes.Semver.compareTo(kubernetes.Semver) -> int
";

/// A version; normalized, it may begin with `v`, leave out parts, and have leading zeros.
fn parse(text: &str, normalize: bool) -> Result<Version, Error> {
    let normalized = normalize.then(|| {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let trimmed = |part: &str| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0".to_owned(),
            part => part.to_owned(),
        };
        let mut parts: Vec<String> = numbers.split('.').map(trimmed).collect();
        while parts.len() < 3 {
            parts.push("0".to_owned());
        }
        format!("{}{rest}", parts.join("."))
    });
    Version::parse(normalized.as_deref().unwrap_or(text)).map_err(|error| Error::message(error.to_string()))
}

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let (text, normalize) = match args {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(normalize)] => (text, *normalize),
        [Value::Opaque(own), rest @ ..] => {
            let Opaque::Semver(own) = &**own else { return None };
            return of_version(name, own, rest).map(Ok);
        }
        _ => return None,
    };
    Some(match name {
        "semver" => parse(text, normalize).map(|version| Value::Opaque(Arc::new(Opaque::Semver(version)))),
        "isSemver" => Ok(Value::Bool(parse(text, normalize).is_ok())),
        _ => return None,
    })
}

fn of_version<'a>(name: &str, own: &Version, rest: &[Value<'a>]) -> Option<Value<'a>> {
    let number = |part: u64| Value::Int(i64::try_from(part).unwrap_or(i64::MAX));
    let order = match rest {
        [] => None,
        [Value::Opaque(other)] => match &**other {
            Opaque::Semver(other) => Some(own.cmp_precedence(other)),
            _ => return None,
        },
        _ => return None,
    };
    Some(match (name, order) {
        ("major", None) => number(own.major),
        ("minor", None) => number(own.minor),
        ("patch", None) => number(own.patch),
        ("isLessThan", Some(order)) => Value::Bool(order.is_lt()),
        ("isGreaterThan", Some(order)) => Value::Bool(order.is_gt()),
        ("compareTo", Some(order)) => Value::Int(order as i64),
        _ => return None,
    })
}
