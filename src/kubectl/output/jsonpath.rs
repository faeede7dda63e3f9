//! `-o jsonpath=…`: kubectl's JSONPath templates.
//!
//! Text with `{…}` in it: paths (`.spec.containers[*].name`, `['a.b']`, `[0]`, `[1:3]`, `[-1]`, `..name`, `[*]`,
//! `[?(@.type=="Ready")]`), literals (`"\n"`), `{range …}` and `{end}`.
//! See <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.

use std::cmp::Ordering;

use serde_json::Value;

use super::json;
use super::jsonpath_parse;
use crate::error::Error;

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Template(pub(super) Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// One `{…}` may hold several paths, separated by blanks.
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// `$`: from the top of the object.
    Root,
    Field(String),
    Wildcard,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Index(i64),
    Recursive,
    Filter(Box<Filter>),
    Union(Vec<Vec<Step>>),
    Literal(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pub left: Vec<Step>,
    /// `None`: the left side only has to be there.
    pub right: Option<(Operator, Vec<Step>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, Error> {
        jsonpath_parse::parse(text)
            .map(Self)
            .map_err(|cause| Error::usage(format!("error parsing jsonpath {text}, {cause}")))
    }

    /// The text the template makes of an object. What is not there is left out.
    pub fn render(&self, object: &Value) -> Result<String, Error> {
        let mut text = String::new();
        render(&self.0, object, object, &mut text)?;
        Ok(text)
    }

    /// The values the paths of the template find.
    pub fn values(&self, object: &Value) -> Result<Vec<Value>, Error> {
        let mut values = Vec::new();
        for node in &self.0 {
            if let Node::Path(steps) = node {
                values.extend(evaluate(steps, object, object)?);
            }
        }
        Ok(values)
    }
}

/// A path as it may be written in `custom-columns`, `--sort-by` and `--for`: without braces, without the first dot.
pub fn relaxed(path: &str) -> String {
    let path = path.trim();
    let inner = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
    match inner.chars().next() {
        Some('.' | '[' | '$' | '@') => format!("{{{inner}}}"),
        _ => format!("{{.{inner}}}"),
    }
}

fn render(nodes: &[Node], root: &Value, current: &Value, text: &mut String) -> Result<(), Error> {
    for node in nodes {
        match node {
            Node::Text(literal) => text.push_str(literal),
            Node::Path(steps) => {
                let values: Vec<String> = evaluate(steps, root, current)?.iter().map(value_text).collect();
                text.push_str(&values.join(" "));
            }
            Node::Range(steps, body) => {
                for item in evaluate(steps, root, current)? {
                    render(body, root, &item, text)?;
                }
            }
        }
    }
    Ok(())
}

/// A scalar as it is, anything else as JSON.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(_) | Value::Object(_) => json::compact(value),
        scalar => scalar.to_string(),
    }
}

/// A value as Go's `%v` shows it (`map[a:b]`, `[x y]`, `<nil>`).
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

fn evaluate(steps: &[Step], root: &Value, current: &Value) -> Result<Vec<Value>, Error> {
    let mut values = vec![current.clone()];
    for step in steps {
        let mut next = Vec::new();
        match step {
            // All values of the first path come before those of the second.
            Step::Union(paths) => {
                for path in paths {
                    for value in &values {
                        next.extend(evaluate(path, root, value)?);
                    }
                }
            }
            step => {
                for value in &values {
                    apply(step, root, value, &mut next)?;
                }
            }
        }
        values = next;
    }
    Ok(values)
}

fn apply(step: &Step, root: &Value, value: &Value, out: &mut Vec<Value>) -> Result<(), Error> {
    match step {
        Step::Root => out.push(root.clone()),
        Step::Literal(literal) => out.push(literal.clone()),
        Step::Field(name) => out.extend(value.get(name).cloned()),
        Step::Wildcard => match value {
            Value::Array(items) => out.extend(items.iter().cloned()),
            Value::Object(fields) => out.extend(fields.values().cloned()),
            _ => {}
        },
        Step::Index(index) => {
            let Value::Array(items) = value else {
                return if value.is_null() { Ok(()) } else { Err(not_a_list(value)) };
            };
            let length = items.len() as i64;
            let position = if *index < 0 { length + index } else { *index };
            match usize::try_from(position).ok().and_then(|position| items.get(position)) {
                Some(item) => out.push(item.clone()),
                None => {
                    let message = format!("array index out of bounds: index {index}, length {length}");
                    return Err(Error::usage(format!("error executing jsonpath: {message}")));
                }
            }
        }
        Step::Slice { start, end, step } => {
            let Value::Array(items) = value else {
                return if value.is_null() { Ok(()) } else { Err(not_a_list(value)) };
            };
            let length = items.len() as i64;
            let bound = |index: i64| (if index < 0 { length + index } else { index }).clamp(0, length);
            let (start, end) = (bound(start.unwrap_or(0)), bound(end.unwrap_or(length)));
            let step = usize::try_from(*step).unwrap_or(1).max(1);
            out.extend((start..end).step_by(step).filter_map(|index| items.get(index as usize)).cloned());
        }
        Step::Recursive => descend(value, out),
        // Over all values at once: see `evaluate`.
        Step::Union(_) => {}
        Step::Filter(filter) => {
            let items: Vec<&Value> = match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(fields) => fields.values().collect(),
                _ => Vec::new(),
            };
            for item in items {
                if matches(filter, root, item)? {
                    out.push(item.clone());
                }
            }
        }
    }
    Ok(())
}

fn not_a_list(value: &Value) -> Error {
    Error::usage(format!("error executing jsonpath: {} is not array or slice", go_text(value)))
}

/// The value and all that is inside of it.
fn descend(value: &Value, out: &mut Vec<Value>) {
    out.push(value.clone());
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| descend(field, out)),
        _ => {}
    }
}

fn matches(filter: &Filter, root: &Value, item: &Value) -> Result<bool, Error> {
    let left = evaluate(&filter.left, root, item)?;
    let Some((operator, right)) = &filter.right else { return Ok(!left.is_empty()) };
    let right = evaluate(right, root, item)?;
    let (Some(left), Some(right)) = (left.first(), right.first()) else { return Ok(false) };
    let order = compare(left, right);
    Ok(match operator {
        Operator::Equal => left == right || order == Some(Ordering::Equal),
        Operator::NotEqual => order != Some(Ordering::Equal) && left != right,
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "status": {"n": 3,
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "h"}]}},
            {"metadata": {"name": "b"}, "status": {"n": 5, "addresses": []}}]})
    }

    #[test]
    fn templates_render_as_in_kubectl() {
        for (template, text) in [
            ("{.kind}", "List"),
            ("kind is {.kind}", "kind is List"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{..name}", "a b"),
            ("{$.items[1].status.n}", "5"),
            (r#"{range .items[*]}{.metadata.name}{"\t"}{.status.n}{"\n"}{end}"#, "a\t3\nb\t5\n"),
            (r#"{.items[*].status.addresses[?(@.type=="InternalIP")].address}"#, "10.0.0.1"),
            (r#"{.items[?(@.status.n>3)].metadata.name}"#, "b"),
            (r#"{.items[?(@.metadata.name!='a')].metadata.name}"#, "b"),
            ("{.items[?(@.metadata.labels)].metadata.name}", "a"),
            (r"{.items[0].metadata.labels.x\.y/z}", "1"),
            ("{.items[0].metadata.labels['x\\.y/z']}", "1"),
            ("{.items[0].metadata['name','labels']}", r#"a {"x.y/z":"1"}"#),
            ("{.items[0].metadata.labels}", r#"{"x.y/z":"1"}"#),
            ("{.missing}", ""),
            ("{.items[*]['metadata.name', 'status.n']}", "a b 3 5"),
            ("", ""),
        ] {
            let parsed = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(parsed.render(&sample()).unwrap(), text, "{template}");
        }
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["{.a", "{.items[}", "{range .items[*]}x", "{.items[?(@.a==)]}", "{.items[a:b]}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
        let template = Template::parse("{.items[7]}").unwrap();
        assert!(
            template
                .render(&sample())
                .unwrap_err()
                .to_string()
                .contains("array index out of bounds: index 7, length 2")
        );
    }
}
