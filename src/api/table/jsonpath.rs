//! JSONPath as printer columns of custom resources use it: `.spec.size`, `.spec['a.b']`, `.spec.list[0].name`,
//! `.spec.list[*].name`, `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// Everything a path leads to; empty if it leads nowhere or is no such path.
pub(super) fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    let mut rest = path.trim();
    while !rest.is_empty() {
        let Some((step, behind)) = split(rest) else { return Vec::new() };
        found = found.into_iter().flat_map(|value| follow(value, step)).collect();
        rest = behind;
    }
    found
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Field(&'p str),
    All,
    /// Counted from the end if it is negative.
    Index(i64),
    /// Elements in which a field compares with a literal.
    Filter {
        path: &'p str,
        operator: &'p str,
        literal: &'p str,
    },
}

fn split(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(rest) = path.strip_prefix('[') {
        let end = closing(rest)?;
        let (inside, behind) = (rest[..end].trim(), &rest[end + 1..]);
        return Some((bracket(inside)?, behind));
    }
    let rest = path.strip_prefix('.').unwrap_or(path);
    if rest.starts_with('[') {
        return split(rest);
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    match name {
        "" if behind.is_empty() => None,
        "" => None,
        "*" => Some((Step::All, behind)),
        name => Some((Step::Field(name), behind)),
    }
}

/// Where the bracket is closed, outside of quotes and inner brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    let quoted = |q: char| text.strip_prefix(q).and_then(|text| text.strip_suffix(q));
    quoted('\'').or_else(|| quoted('"'))
}

fn bracket(inside: &str) -> Option<Step<'_>> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        let operator = ["==", "!="].into_iter().find(|operator| filter.contains(operator))?;
        let (path, literal) = filter.split_once(operator)?;
        return Some(Step::Filter { path: path.trim().strip_prefix('@')?, operator, literal: literal.trim() });
    }
    inside.parse().ok().map(Step::Index)
}

fn follow<'a>(value: &'a Value, step: Step<'_>) -> Vec<&'a Value> {
    let items = || value.as_array().map_or(&[][..], Vec::as_slice);
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => match value {
            Value::Object(fields) => fields.values().collect(),
            _ => items().iter().collect(),
        },
        Step::Index(index) => {
            let index = if index < 0 { items().len() as i64 + index } else { index };
            usize::try_from(index).ok().and_then(|index| items().get(index)).into_iter().collect()
        }
        Step::Filter { path, operator, literal } => {
            let wanted = match unquoted(literal) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(literal).unwrap_or_default(),
            };
            let holds = |item: &&Value| (find(item, path).first() == Some(&&wanted)) == (operator == "==");
            items().iter().filter(holds).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::find;

    #[test]
    fn finds_what_columns_point_at() {
        let object = json!({"spec": {"a.b": 1, "list": [{"name": "x"}, {"name": "y"}]}, "status": {"conditions": [
            {"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (path, found) in [
            (".spec.list[0].name", vec![json!("x")]),
            (".spec.list[-1].name", vec![json!("y")]),
            (".spec.list[*].name", vec![json!("x"), json!("y")]),
            (".spec['a.b']", vec![json!(1)]),
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".status.conditions[?(@.type != 'Ready')].status", vec![json!("False")]),
            (".none.x", vec![]),
            (".spec[", vec![]),
        ] {
            assert_eq!(find(&object, path).into_iter().cloned().collect::<Vec<_>>(), found, "{path}");
        }
    }
}
