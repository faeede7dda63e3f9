//! Reading objects for tables.

use serde_json::Value;

/// A value whose fields are looked up by path: `spec.template.spec`. What is absent reads as empty.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    pub(super) fn get(self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.0, |value, name| value.get(name)).filter(|value| !value.is_null())
    }

    pub(super) fn at(self, path: &str) -> Option<Fields<'a>> {
        self.get(path).map(Fields)
    }

    pub(super) fn has(self, path: &str) -> bool {
        self.get(path).is_some()
    }

    pub(super) fn text(self, path: &str) -> &'a str {
        self.get(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The text, or a stand-in if it is empty.
    pub(super) fn text_or(self, path: &str, absent: &'a str) -> &'a str {
        match self.text(path) {
            "" => absent,
            text => text,
        }
    }

    pub(super) fn int(self, path: &str) -> i64 {
        self.get(path).and_then(Value::as_i64).unwrap_or_default()
    }

    pub(super) fn bool(self, path: &str) -> bool {
        self.get(path).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn list(self, path: &str) -> impl DoubleEndedIterator<Item = Fields<'a>> + ExactSizeIterator {
        self.get(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice).iter().map(Fields)
    }

    pub(super) fn texts(self, path: &str) -> Vec<&'a str> {
        self.list(path).filter_map(|item| item.0.as_str()).collect()
    }

    /// How many entries a list or map has.
    pub(super) fn count(self, path: &str) -> usize {
        match self.get(path) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(fields)) => fields.len(),
            _ => 0,
        }
    }

    /// A scalar of any type, as text.
    pub(super) fn show(self, path: &str) -> String {
        match self.get(path) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn name(self) -> Value {
        self.text("metadata.name").into()
    }

    /// The condition of a type.
    pub(super) fn condition(self, kind: &str) -> Option<Fields<'a>> {
        self.list("status.conditions").find(|condition| condition.text("type") == kind)
    }

    /// Whether the condition of a type is true.
    pub(super) fn is(self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.text("status") == "True")
    }

    /// A map of texts as `a=b,c=d`; `<none>` if it is empty.
    pub(super) fn labels(self, path: &str) -> String {
        let pairs = self.get(path).and_then(Value::as_object).into_iter().flatten();
        let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        or_none(pairs.join(","))
    }

    /// A label selector object as text; `<none>` if it selects everything or nothing.
    pub(super) fn label_selector(self, path: &str) -> String {
        match crate::selector::labels::Selector::from_label_selector(self.get(path)) {
            Ok(selector) => or_none(selector.to_string()),
            Err(_) => "<error>".to_owned(),
        }
    }

    /// Names and images of the containers of a pod template.
    pub(super) fn containers(self, path: &str) -> [Value; 2] {
        let field = |name: &str| self.list(path).map(|c| c.text(name)).collect::<Vec<_>>().join(",");
        [field("name").into(), field("image").into()]
    }
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// The first of a list, and how many more there are.
pub(super) fn some_of(all: &[String], shown: usize) -> String {
    match all.len() > shown {
        true => format!("{} + {} more...", all[..shown].join(","), all.len() - shown),
        false => all.join(","),
    }
}
