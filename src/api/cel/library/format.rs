//! Formats by name, and what is wrong with a text that should have one.

use std::sync::Arc;

use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;
use crate::structural::format;
use crate::validation::names;

pub const DECLARATIONS: &str = "
format.named(string) -> optional(kubernetes.NamedFormat)
format.dns1123Label() -> kubernetes.NamedFormat
format.dns1123Subdomain() -> kubernetes.NamedFormat
format.dns1035Label() -> kubernetes.NamedFormat
format.qualifiedName() -> kubernetes.NamedFormat
format.dns1123LabelPrefix() -> kubernetes.NamedFormat
format.dns1123SubdomainPrefix() -> kubernetes.NamedFormat
format.dns1035LabelPrefix() -> kubernetes.NamedFormat
format.labelValue() -> kubernetes.NamedFormat
format.uri() -> kubernetes.NamedFormat
format.uuid() -> kubernetes.NamedFormat
format.byte() -> kubernetes.NamedFormat
format.date() -> kubernetes.NamedFormat
format.datetime() -> kubernetes.NamedFormat
kubernetes.NamedFormat.validate(string) -> optional(list(string))
";

/// A format that has a name.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    name: &'static str,
    check: fn(&str) -> Vec<String>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What is told of a text that has not the format.
fn wrong(text: &str, format: &str, why: &str) -> Vec<String> {
    if format::has(text, format) { Vec::new() } else { vec![why.to_owned()] }
}

/// A prefix may end with a dash.
fn prefix(text: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => check(&format!("{rest}a")),
        _ => check(text),
    }
}

const FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", check: names::dns1123_label },
    Format { name: "dns1123Subdomain", check: names::dns1123_subdomain },
    Format { name: "dns1035Label", check: names::dns1035_label },
    Format { name: "qualifiedName", check: names::qualified_name },
    Format { name: "dns1123LabelPrefix", check: |text| prefix(text, names::dns1123_label) },
    Format { name: "dns1123SubdomainPrefix", check: |text| prefix(text, names::dns1123_subdomain) },
    Format { name: "dns1035LabelPrefix", check: |text| prefix(text, names::dns1035_label) },
    Format { name: "labelValue", check: names::label_value },
    Format { name: "uri", check: |text| wrong(text, "uri", "invalid URI") },
    Format { name: "uuid", check: |text| wrong(text, "uuid", "does not match the UUID format") },
    Format { name: "byte", check: |text| wrong(text, "byte", "invalid base64") },
    Format { name: "date", check: |text| wrong(text, "date", "invalid date") },
    Format { name: "datetime", check: |text| wrong(text, "date-time", "invalid datetime") },
];

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let named = |name: &str| FORMATS.iter().find(|format| format.name == name).copied();
    let wrap = |format| Value::Opaque(Arc::new(Opaque::Format(format)));
    Some(Ok(match (name, args) {
        ("format.named", [Value::String(name)]) => Value::Optional(named(name).map(|format| Arc::new(wrap(format)))),
        ("validate", [Value::Opaque(format), Value::String(text)]) => {
            let Opaque::Format(format) = &**format else { return None };
            let found = (format.check)(text);
            match found.is_empty() {
                true => Value::Optional(None),
                false => Value::some(Value::list(found.into_iter().map(Value::text).collect())),
            }
        }
        (name, []) => wrap(named(name.strip_prefix("format.")?)?),
        _ => return None,
    }))
}
