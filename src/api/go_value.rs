//! Values as Go prints Kubernetes' internal types: all fields, in the order of the struct, under Go's names.
//!
//! Messages about what may not change show the difference between two of them. `data/go-structs.txt` says what fields
//! the structs have; it is read when such a message is made, which is seldom.

use std::collections::HashMap;

use serde_json::Value;

use crate::unified_diff::unified;

const STRUCTS: &str = include_str!("data/go-structs.txt");

/// A field of a struct: its name in Go, where its value is, and its type.
struct Field<'a> {
    go_name: &'a str,
    /// Its name in JSON; one of the parent's fields if it begins with `^`.
    name: &'a str,
    type_: &'a str,
}

struct Structs<'a>(HashMap<&'a str, Vec<Field<'a>>>);

impl<'a> Structs<'a> {
    fn read(text: &'a str) -> Self {
        let mut structs: HashMap<&str, Vec<Field>> = HashMap::new();
        let mut current = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with(' '), &words[..]) {
                (false, [name]) => current = name,
                (true, [go_name, name, type_]) => {
                    structs.entry(current).or_default().push(Field { go_name, name, type_ });
                }
                (true, [embedded]) => {
                    structs.entry(current).or_default().push(Field { go_name: "", name: "", type_: embedded });
                }
                _ => {}
            }
        }
        Self(structs)
    }

    /// The fields of a struct with their types and values, those of embedded structs among them.
    fn fields<'v>(
        &'a self,
        type_: &str,
        value: &'v Value,
        parent: &'v Value,
        out: &mut Vec<(&'a Field<'a>, &'v Value)>,
    ) {
        for field in self.0.get(type_).into_iter().flatten() {
            if field.go_name.is_empty() {
                self.fields(field.type_, value, parent, out);
                continue;
            }
            let found = match field.name.strip_prefix('^') {
                Some(name) => parent.get(name),
                None => value.get(field.name),
            };
            out.push((field, found.unwrap_or(&Value::Null)));
        }
    }

    fn write(&self, type_: &str, value: &Value, parent: &Value, depth: usize, out: &mut String) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth));
        };
        if let Some(element) = type_.strip_prefix("[]") {
            let Some(items) = value.as_array() else { return out.push_str("null") };
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                indent(out, depth + 1);
                self.write(element, item, value, depth + 1, out);
            }
            if !items.is_empty() {
                indent(out, depth);
            }
            return out.push(']');
        }
        if let Some(target) = type_.strip_prefix('*') {
            return if value.is_null() { out.push_str("null") } else { self.write(target, value, parent, depth, out) };
        }
        if self.0.contains_key(type_) {
            let mut fields = Vec::new();
            self.fields(type_, value, parent, &mut fields);
            out.push('{');
            for (index, (field, found)) in fields.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                indent(out, depth + 1);
                out.push_str(&format!("\"{}\": ", field.go_name));
                self.write(field.type_, found, value, depth + 1, out);
            }
            indent(out, depth);
            return out.push('}');
        }
        match (type_, value) {
            ("string", Value::Null) => out.push_str("\"\""),
            ("bool", Value::Null) => out.push_str("false"),
            ("int", Value::Null) => out.push('0'),
            // Maps, and types that are the same in JSON.
            _ => {
                let text = format!("{value:#}");
                // The standard form has two spaces for each step.
                for (index, line) in text.lines().enumerate() {
                    let inner = line.trim_start();
                    if index > 0 {
                        indent(out, depth + (line.len() - inner.len()) / 2);
                    }
                    out.push_str(inner);
                }
            }
        }
    }
}

/// A value of a type of `data/go-structs.txt`, indented by one space.
pub fn shown(type_: &str, value: &Value) -> String {
    let mut text = String::new();
    Structs::read(STRUCTS).write(type_, value, &Value::Null, 0, &mut text);
    // As Go does, so that the text could stand in a page.
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// How two values of that type differ.
pub fn difference(type_: &str, old: &Value, new: &Value) -> String {
    unified(&shown(type_, old), &shown(type_, new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_type_that_is_named_is_known() {
        let structs = Structs::read(STRUCTS);
        let plain = ["string", "bool", "int", "map", "json"];
        for field in structs.0.values().flatten() {
            let type_ = field.type_.trim_start_matches("[]").trim_start_matches('*');
            assert!(plain.contains(&type_) || structs.0.contains_key(type_), "{} {}", field.go_name, field.type_);
        }
    }

    #[test]
    fn fields_are_in_the_order_of_the_struct_whether_set_or_not() {
        let claim = json!({"name": "c", "request": "r"});
        assert_eq!(shown("ResourceClaim", &claim), "{\n \"Name\": \"c\",\n \"Request\": \"r\"\n}");
        let port = json!({"containerPort": 80});
        let text = shown("ContainerPort", &port);
        assert!(text.contains("\"HostPort\": 0,\n \"ContainerPort\": 80,\n \"Protocol\": \"\""), "{text}");
    }

    #[test]
    fn what_the_host_shares_is_part_of_the_security_context() {
        let spec = json!({"hostNetwork": true, "securityContext": {}, "containers": []});
        let text = shown("PodSpec", &spec);
        assert!(text.contains("\"SecurityContext\": {\n  \"HostNetwork\": true,\n  \"HostPID\": false,"), "{text}");
    }

    #[test]
    fn a_difference_shows_the_lines_around_it() {
        let container = |image: &str| json!({"name": "e", "image": image});
        assert_eq!(
            difference("EphemeralContainer", &container("i"), &container("j")),
            "@@ -1,6 +1,6 @@\n {\n  \"Name\": \"e\",\n- \"Image\": \"i\",\n+ \"Image\": \"j\",\n  \"Command\": null,\n  \"Args\": null,\n  \"WorkingDir\": \"\",\n"
        );
    }
}
