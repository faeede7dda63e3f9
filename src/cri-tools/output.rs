//! `-o json`, `-o yaml`, and what `inspect` shows.

use std::collections::HashMap;
use std::io::Write;

use clap::builder::{ValueParser, ValueParserFactory};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::protojson;

/// Formats of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Table,
}

impl ValueParserFactory for Format {
    type Parser = ValueParser;

    fn value_parser() -> ValueParser {
        ValueParser::new(|text: &str| match text {
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "table" => Ok(Self::Table),
            // It would take an interpreter of Go's templates, which nothing else here needs.
            "go-template" => Err("Go's templates are not available; use json with a program such as jq"),
            _ => Err("expected json, yaml or table"),
        })
    }
}

/// Writes to standard output at once.
pub fn print(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// A line on standard output.
pub fn line(text: impl std::fmt::Display) -> Result<(), Error> {
    print(format_args!("{text}\n"))
}

/// Writes a value in a format that has fields.
pub fn value(value: &Value, format: Format) -> Result<(), Error> {
    match format {
        Format::Yaml => line(k3s_kubectl::yaml(value)),
        Format::Json | Format::Table => line(format_args!("{value:#}")),
    }
}

/// Writes a message in such a format.
pub fn message<T: Serialize>(message: &T, format: Format) -> Result<(), Error> {
    value(&protojson::to_value(message), format)
}

/// What `inspect` and its kin show: the status, and each part of the runtime's own information by its key, read where
/// it is JSON.
pub fn status(mut status: Value, times: &[&str], info: &HashMap<String, String>) -> Value {
    for field in times {
        if let Some(nanos) = status[*field].as_str().and_then(|nanos| nanos.parse().ok()) {
            status[*field] = Value::from(crate::human::time(nanos));
        }
    }
    let mut shown = Map::new();
    for (key, text) in info {
        let read = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
        shown.insert(key.clone(), read.unwrap_or_else(|| Value::from(text.trim_matches('"'))));
    }
    shown.insert("status".to_owned(), status);
    Value::Object(shown)
}

/// Writes one such value as it is, and several as a list.
pub fn statuses(mut values: Vec<Value>, format: Format) -> Result<(), Error> {
    match values.len() {
        0 => Ok(()),
        1 => value(&values.remove(0), format),
        _ => value(&Value::Array(values), format),
    }
}

/// `CONTAINER` and other ids, cut as people use them.
pub fn short(id: &str, full: bool) -> &str {
    let id = if full { id } else { id.strip_prefix("sha256:").unwrap_or(id) };
    if full { id } else { id.get(..13).unwrap_or(id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_has_times_and_information() {
        let info = [("info".to_owned(), r#"{"pid":7}"#.to_owned()), ("note".to_owned(), "\"x\"".to_owned())].into();
        let shown = status(json!({"createdAt": "1700000000000000000", "id": "a"}), &["createdAt"], &info);
        assert_eq!(
            shown,
            json!({"status": {"createdAt": "2023-11-14T22:13:20Z", "id": "a"}, "info": {"pid": 7}, "note": "x"})
        );
    }

    #[test]
    fn ids_are_cut() {
        assert_eq!(short("sha256:0123456789abcdef", false), "0123456789abc");
        assert_eq!(short("sha256:0123456789abcdef", true), "sha256:0123456789abcdef");
        assert_eq!(short("abc", false), "abc");
    }
}
