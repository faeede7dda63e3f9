//! `-o yaml`: written as go-yaml writes it for kubectl, so that diffs against kubectl's own output are empty.

use serde_json::{Map, Value};

use super::yaml_scalar;

/// The value as a document.
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(fields, 0, &mut text),
        Value::Array(items) if !items.is_empty() => array(items, 0, &mut text),
        scalar => {
            yaml_scalar::write(scalar, 0, 0, &mut text);
            text.push('\n');
        }
    }
    text
}

fn object(fields: &Map<String, Value>, indent: usize, text: &mut String) {
    for (index, (key, value)) in fields.iter().enumerate() {
        // The first field of a list's element stands behind its dash.
        if index > 0 || !text.ends_with("- ") {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        yaml_scalar::write_key(key, text);
        text.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                text.push('\n');
                object(fields, indent + 2, text);
            }
            // Lists are not indented below their key.
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                array(items, indent, text);
            }
            scalar => {
                text.push(' ');
                let column = text.len() - text.rfind('\n').map_or(0, |line| line + 1);
                yaml_scalar::write(scalar, indent + 2, column, text);
                text.push('\n');
            }
        }
    }
}

fn array(items: &[Value], indent: usize, text: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !text.ends_with("- ") {
            text.extend(std::iter::repeat_n(' ', indent));
        }
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => object(fields, indent + 2, text),
            Value::Array(items) if !items.is_empty() => array(items, indent + 2, text),
            scalar => {
                yaml_scalar::write(scalar, indent + 2, indent + 2, text);
                text.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn laid_out_as_by_go_yaml() {
        let value = json!({"a": {"b": [1, {"c": "x", "d": []}], "e": {}}, "f": [["g", "h"], null], "i": true});
        assert_eq!(
            to_string(&value),
            "a:\n  b:\n  - 1\n  - c: x\n    d: []\n  e: {}\nf:\n- - g\n  - h\n- null\ni: true\n"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let long = "word ".repeat(40);
        let value = json!({"texts": ["", " a", "a ", "a: b", "#x", "- x", "yes", "1e3", "0x1f", "2020-01-01", "a\nb\n",
            "\n\n x\n", "a\n\n", "tab\there", "it's", "\"q\"", "\u{1}", "é", "'", "*a", "!t", "%", "@", "`", "~",
            long.trim(), long, "{a}", "a #b", "a,b", "?", "-", "---", "null", "12:30:45", "=", "<<", "a\n b \nc"]});
        let back: Value = serde_saphyr::from_str(&to_string(&value)).unwrap();
        assert_eq!(back, value, "{}", to_string(&value));
    }
}
