//! Any object: its fields, as titles and values.

use serde_json::{Map, Value};

use super::{Writer, text};

pub fn describe(writer: &mut Writer, object: &Value) {
    writer.line(0, &format!("Name:\t{}", k3s_api::object::name(object)));
    writer.line(0, &format!("Namespace:\t{}", k3s_api::object::namespace(object)));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    let mut rest = object.as_object().cloned().unwrap_or_default();
    if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
        for shown in ["name", "namespace", "labels", "annotations", "managedFields"] {
            metadata.remove(shown);
        }
    }
    fields(writer, 0, &rest);
}

fn fields(writer: &mut Writer, level: usize, map: &Map<String, Value>) {
    for (key, value) in map {
        let title = title(key);
        match value {
            Value::Object(inner) if inner.is_empty() => writer.line(level, &format!("{title}:")),
            Value::Object(inner) => {
                writer.line(level, &format!("{title}:"));
                fields(writer, level + 1, inner);
            }
            Value::Array(items) => {
                writer.line(level, &format!("{title}:"));
                list(writer, level + 1, items);
            }
            Value::Null => writer.line(level, &format!("{title}:\t<nil>")),
            scalar => writer.line(level, &format!("{title}:\t{}", text(scalar))),
        }
    }
}

fn list(writer: &mut Writer, level: usize, items: &[Value]) {
    for item in items {
        match item {
            Value::Object(inner) => fields(writer, level, inner),
            Value::Array(items) => list(writer, level + 1, items),
            scalar => writer.line(level, &text(scalar)),
        }
    }
}

/// `creationTimestamp`: `Creation Timestamp`, `apiVersion`: `API Version`.
fn title(key: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = key.chars().collect();
    for (index, c) in chars.iter().enumerate() {
        let before_is_lower = index > 0 && chars[index - 1].is_lowercase();
        let ends_acronym =
            c.is_uppercase() && index > 0 && chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if index == 0 || (c.is_uppercase() && (before_is_lower || ends_acronym)) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(*c);
        }
    }
    let words = words.into_iter().map(|word| match word.to_lowercase().as_str() {
        acronym @ ("api" | "url" | "uid" | "osb" | "guid") => acronym.to_uppercase(),
        word => capitalized(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_words() {
        for (key, expected) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("podCIDRs", "Pod Cid Rs"),
            ("kind", "Kind"),
        ] {
            assert_eq!(title(key), expected);
        }
    }
}
