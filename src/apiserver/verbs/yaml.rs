//! YAML as Kubernetes reads it: version 1.1, in which `y`, `no` and `off` are truth values, and the keys of a map texts
//! whatever they look like.

use std::collections::HashSet;
use std::fmt;

use k3s_api::number;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// A document as JSON.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

/// What reading the deepest document that is taken needs, in a debug build too: dozens of frames for each level.
const STACK: usize = 64 << 20;

/// Reads a document on a stack that is large enough, so that a deep one ends in an error and not the process. Of a key
/// that is there twice, the last one counts.
///
/// # Errors
/// What is wrong with it, in the words of the library that Kubernetes reads YAML with, as far as they are known.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins, legacy_octal_numbers: true };
    let read = stacker::grow(STACK, || serde_saphyr::from_str_with_options::<Document>(text, options));
    read.map(|document| document.0).map_err(|error| complaint(text, &error.to_string()))
}

/// The keys that are twice in the same map, in order: `line 3: key "a" already set in map`.
pub(super) fn duplicates(text: &str) -> Vec<String> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let read = stacker::grow(STACK, || serde_saphyr::from_str_with_options::<Duplicates>(text, options));
    // What cannot be read is refused by who reads it.
    read.map(|found| found.0).unwrap_or_default()
}

/// All duplicates as the one error that a strict reading ends in.
pub(super) fn refusal(duplicates: &[String]) -> String {
    format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  "))
}

/// The duplicates below a value.
struct Duplicates(Vec<String>);

impl<'de> Deserialize<'de> for Duplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DuplicateFinder)
    }
}

struct DuplicateFinder;

impl<'de> Visitor<'de> for DuplicateFinder {
    type Value = Duplicates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_none<E>(self) -> Result<Duplicates, E> {
        Ok(Duplicates(Vec::new()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Duplicates, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Duplicates, A::Error> {
        let mut found = Vec::new();
        while let Some(Duplicates(below)) = list.next_element()? {
            found.extend(below);
        }
        Ok(Duplicates(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Duplicates, A::Error> {
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<Spanned<Document>>()? {
            let (line, Document(key)) = (key.referenced.line(), key.value);
            if !known.insert(key.clone()) {
                found.push(format!("line {line}: key {key} already set in map"));
            }
            found.extend(map.next_value::<Duplicates>()?.0);
        }
        Ok(Duplicates(found))
    }
}

struct Reader;

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Reader)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(Key(key)) = map.next_key()? {
            entries.insert(key, map.next_value_seed(Reader)?);
        }
        Ok(Value::Object(entries))
    }
}

/// A key: the text of what it is read as.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(Reader)?;
        Ok(Self(match value {
            Value::String(text) => text,
            Value::Number(number) if number.is_f64() => number::shortest(number.as_f64().unwrap_or_default()),
            value => value.to_string(),
        }))
    }
}

/// What is wrong with a text.
fn complaint(text: &str, error: &str) -> String {
    let line = || {
        let number = error.split("line ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        number.parse::<usize>().ok()
    };
    // What is not closed is noticed at the end, unless it began below the first line.
    let opened = |line: usize| if line > 1 { line - 1 } else { text.lines().count() };
    let found = [
        ("unclosed bracket '['", "did not find expected ',' or ']'", true),
        ("unclosed bracket '{'", "did not find expected ',' or '}'", true),
        ("mapping values are not allowed in this context", "mapping values are not allowed in this context", false),
        ("found character that cannot start any token", "found character that cannot start any token", false),
    ];
    let known = found.iter().find(|(ours, ..)| error.contains(ours)).zip(line());
    match known {
        Some(((_, theirs, true), line)) => format!("yaml: line {}: {theirs}", opened(line)),
        Some(((_, theirs, false), line)) => format!("yaml: line {line}: {theirs}"),
        None => format!("yaml: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        super::read(text).unwrap_or_default()
    }

    #[test]
    fn a_deep_document_is_read_or_refused() {
        for depth in [10, 40, 100, 1000, 100_000] {
            let text = format!("a: {}1{}\n", "{b: ".repeat(depth), "}".repeat(depth));
            // Where it is refused is for the library to say; what is read is as deep as it was.
            let mut value = read(&text);
            let mut levels = 0;
            while let Some(inner) = value.get_mut(if levels == 0 { "a" } else { "b" }) {
                value = inner.take();
                levels += 1;
            }
            assert!(levels == 0 || levels == depth + 1, "{levels} of {depth}");
            assert!(depth > 40 || levels > 0, "{depth}");
        }
    }

    #[test]
    fn truth_has_many_words() {
        assert_eq!(
            read("a: y\nb: 'y'\nc: off\nd: \"no\"\ne: yes\nf: true\ng: yo\n"),
            json!({"a": true, "b": "y", "c": false, "d": "no", "e": true, "f": true, "g": "yo"})
        );
    }

    #[test]
    fn errors_read_as_in_kubernetes() {
        let error = |text: &str| super::read(text).err().unwrap_or_default();
        assert_eq!(error("a: [b"), "yaml: line 1: did not find expected ',' or ']'");
        assert_eq!(error("a: {b: c"), "yaml: line 1: did not find expected ',' or '}'");
        assert_eq!(error("a: 1\nb:\n- [c\n"), "yaml: line 2: did not find expected ',' or ']'");
    }

    #[test]
    fn of_what_is_there_twice_the_last_counts() {
        let text = "a: 1\nb:\n  c: x\n  d: [{e: 1, e: 2}]\n  c: z\na: 2\n";
        assert_eq!(read(text), json!({"a": 2, "b": {"c": "z", "d": [{"e": 2}]}}));
        assert_eq!(
            duplicates(text),
            [
                "line 4: key \"e\" already set in map",
                "line 5: key \"c\" already set in map",
                "line 6: key \"a\" already set in map"
            ]
        );
        assert!(duplicates("a: 1\nb: {a: 1}\n").is_empty());
    }

    #[test]
    fn numbers_that_begin_with_zero_are_octal() {
        assert_eq!(read("a: 0400\nb: '0400'\nc: 0x10\nd: 10\n"), json!({"a": 256, "b": "0400", "c": 16, "d": 10}));
    }

    #[test]
    fn keys_are_texts() {
        assert_eq!(
            read("y: 1\n'n': 2\n3: a\n1.5: b\nplain: {no: [x, 4, null]}\n"),
            json!({"true": 1, "n": 2, "3": "a", "1.5": "b", "plain": {"false": ["x", 4, null]}})
        );
    }
}
