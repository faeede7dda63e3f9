//! `-o json`: indented by four, as Go writes it.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// The value with a line break at its end.
pub fn to_string(value: &Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    // A `Value` always serializes, and into JSON, which is UTF-8.
    let _ = value.serialize(&mut serializer);
    bytes.push(b'\n');
    escape(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value in one line.
pub fn compact(value: &Value) -> String {
    escape(value.to_string())
}

/// Go escapes what could end a script element; these characters are only ever inside of strings.
fn escape(text: String) -> String {
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn written_as_by_go() {
        let text = to_string(&json!({"b": [], "a": {"x": "<1>"}, "c": {}}));
        assert_eq!(
            text,
            "{\n    \"a\": {\n        \"x\": \"\\u003c1\\u003e\"\n    },\n    \"b\": [],\n    \"c\": {}\n}\n"
        );
    }
}
