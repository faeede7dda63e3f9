//! Where two answers differ.

use std::collections::BTreeSet;
use std::fmt;

use crate::json::Json;

/// A place where an answer is not what was recorded.
#[derive(Debug)]
pub struct Difference {
    /// Path of the value, `.body.items[0].metadata.name`.
    pub path: String,
    /// The value recorded; none if it is not there.
    pub want: Option<Json>,
    /// The value of the answer; none if it is not there.
    pub got: Option<Json>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: want {} got {}", self.path, excerpt(self.want.as_ref()), excerpt(self.got.as_ref()))
    }
}

fn excerpt(value: Option<&Json>) -> String {
    value.map_or_else(|| "<absent>".to_owned(), |value| value.to_string().chars().take(300).collect())
}

/// The places where `got` is not `want`. The order of the keys of an object does not matter.
pub fn differences(want: &Json, got: &Json) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(want, got, "", &mut found);
    found
}

fn compare(want: &Json, got: &Json, path: &str, found: &mut Vec<Difference>) {
    let differ = |want: Option<&Json>, got: Option<&Json>, path: String| Difference {
        path,
        want: want.cloned(),
        got: got.cloned(),
    };
    let same = match (want, got) {
        (Json::Object(left), Json::Object(right)) => {
            let keys: BTreeSet<_> = left.iter().chain(right).map(|(key, _)| key).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (want.get(key), got.get(key)) {
                    (Some(left), Some(right)) => compare(left, right, &path, found),
                    (left, right) => found.push(differ(left, right, path)),
                }
            }
            true
        }
        (Json::Array(left), Json::Array(right)) => {
            if left.len() != right.len() {
                let [left, right] = [left, right].map(|array| Json::Number(array.len().into()));
                found.push(differ(Some(&left), Some(&right), format!("{path}.length")));
            }
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(left, right, &format!("{path}[{index}]"), found);
            }
            true
        }
        (Json::Null, Json::Null) => true,
        (Json::Bool(left), Json::Bool(right)) => left == right,
        (Json::Number(left), Json::Number(right)) => left == right,
        (Json::String(left), Json::String(right)) => left == right,
        _ => false,
    };
    if !same {
        found.push(differ(Some(want), Some(got), path.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(want: &str, got: &str) -> Vec<String> {
        let [want, got] = [want, got].map(|text| serde_json::from_str(text).unwrap());
        differences(&want, &got).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        assert!(places(r#"{"a":1,"b":[{"c":null,"d":""}]}"#, r#"{"b":[{"d":"","c":null}],"a":1}"#).is_empty());
    }

    #[test]
    fn each_place_is_named() {
        let found = places(r#"{"a":{"b":[1,2,3]},"c":1,"e":true}"#, r#"{"a":{"b":[1,4]},"d":"x","e":1}"#);
        let expected = [
            ".a.b.length: want 3 got 2",
            ".a.b[1]: want 2 got 4",
            ".c: want 1 got <absent>",
            ".d: want <absent> got \"x\"",
            ".e: want true got 1",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn whole_numbers_and_fractions_differ() {
        assert_eq!(places("1", "1.0"), [": want 1 got 1.0"]);
    }
}
