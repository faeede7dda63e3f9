//! Field selectors: `metadata.name=a,spec.nodeName!=n`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::Error;
use crate::quote::quote;
use crate::resource::Resource;

/// Terms that all must hold. None selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// `metadata.name`
    pub field: String,
    pub value: String,
    /// Whether the field must differ from the value.
    pub not: bool,
}

impl Selector {
    /// Its terms, in order.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Refuses fields by which objects of that resource cannot be selected. Kubernetes has several wordings: kinds
    /// without fields of their own list the two that all have, and some of the others say which kind it is about.
    pub fn check(&self, row: &Resource) -> Result<(), Error> {
        let own = |field: &str| row.selectable_fields.iter().any(|own| own.path == field);
        let is_plain = row.selectable_fields.is_empty() && row.custom().is_none();
        let known = |field: &str| match field {
            "metadata.name" => true,
            "metadata.namespace" => row.namespaced || is_plain,
            field => own(field),
        };
        let Some(term) = self.terms.iter().find(|term| !known(&term.field)) else { return Ok(()) };
        let field = &term.field;
        Err(match (&*row.group, &*row.plural) {
            _ if is_plain => Error(format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                quote(field)
            )),
            ("batch", "jobs") => Error(format!("field label {} not supported for Job", quote(field))),
            ("resource.k8s.io", _) => {
                Error(format!("field label not supported for {}, Kind={}: {field}", row.api_version(), row.kind))
            }
            _ => unsupported(field),
        })
    }

    /// Whether an object whose fields `get` looks up is selected. See [`value`].
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.terms.iter().all(|term| (get(&term.field) == term.value.as_str()) != term.not)
    }

    /// Whether the object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_with(|field| value(object, field))
    }

    /// The value the field must have, if a term says so: `metadata.name=a` makes a list a get.
    pub fn requires_exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.field == field && !term.not).map(|term| term.value.as_str())
    }
}

/// The refusal of a field of a kind that has selectable fields of its own, or whose conversion is told apart from the
/// default (namespaces, custom resources).
pub fn unsupported(field: &str) -> Error {
    Error(format!("field label not supported: {field}"))
}

/// The value of a field as selectors see it: text as it is, numbers and booleans printed, an absent one empty; an absent
/// boolean or count that Kubernetes always has is `false` or `0`.
pub fn value<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let get = |path: &str| path.split('.').try_fold(object, |value, name| value.get(name));
    // An event's component stands in one of two places, under either of its selector's names.
    let found = match field {
        "source" => get("source.component").or_else(|| get("reportingComponent")),
        "reportingComponent" => get("reportingComponent").or_else(|| get("reportingController")),
        _ => get(field),
    };
    match found {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Bool(true)) => Cow::Borrowed("true"),
        Some(Value::Bool(false)) => Cow::Borrowed("false"),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(match field {
            "spec.hostNetwork" | "spec.unschedulable" => "false",
            "status.replicas" | "status.successful" => "0",
            _ => "",
        }),
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(selector: &str) -> Result<Self, Error> {
        let mut terms = Vec::new();
        for part in split_terms(selector).into_iter().filter(|part| !part.is_empty()) {
            let term = (0..part.len()).filter(|at| part.is_char_boundary(*at)).find_map(|at| {
                let operator = ["!=", "==", "="].into_iter().find(|operator| part[at..].starts_with(operator))?;
                Some((&part[..at], operator, &part[at + operator.len()..]))
            });
            let Some((field, operator, value)) = term else {
                return Err(Error(format!("invalid selector: '{selector}'; can't understand '{part}'")));
            };
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, not: operator == "!=" });
        }
        Ok(Self { terms })
    }
}

/// Splits at commas that are not escaped.
fn split_terms(selector: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// Undoes `\\`, `\,` and `\=`.
fn unescape(value: &str) -> Result<String, Error> {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                other => {
                    let sequence = other.map(String::from).unwrap_or_default();
                    return Err(Error(format!("invalid field selector: invalid escape sequence: \\{sequence}")));
                }
            },
            ',' | '=' => {
                return Err(Error(format!("invalid field selector: unescaped character in value: {}", c as u32)));
            }
            c => text.push(c),
        }
    }
    Ok(text)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let (comma, not) = (if index > 0 { "," } else { "" }, if term.not { "!" } else { "" });
            write!(f, "{comma}{}{not}={value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_fields() {
        let object =
            json!({"metadata": {"name": "a,b"}, "spec": {"hostNetwork": true, "n": 3}, "source": {"component": "k"}});
        for (selector, selected) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("metadata.name==c", false),
            ("metadata.name!=c,spec.n=3", true),
            ("spec.hostNetwork=true", true),
            ("spec.unschedulable=false", true),
            ("spec.nodeName=", true),
            ("source=k", true),
        ] {
            let parsed: Selector = selector.parse().unwrap_or_else(|e| panic!("{selector}: {e}"));
            assert_eq!(parsed.matches(&object), selected, "{selector}");
        }
    }

    #[test]
    fn refuses_in_kubernetes_words() {
        let error = |selector: &str| selector.parse::<Selector>().map_err(|error| error.to_string());
        assert_eq!(error("bogus"), Err("invalid selector: 'bogus'; can't understand 'bogus'".to_owned()));
        assert_eq!(error("a=b=c"), Err("invalid field selector: unescaped character in value: 61".to_owned()));
        assert_eq!(error("a=\\x"), Err("invalid field selector: invalid escape sequence: \\x".to_owned()));
        let refused = |group: &str, version: &str, plural: &str, selector: &str| {
            let row = crate::resource::find(group, version, plural).unwrap_or_else(|| panic!("no {plural}"));
            let selector: Selector = selector.parse().unwrap_or_else(|error| panic!("{error}"));
            selector.check(row).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            refused("", "v1", "configmaps", "data.a=1"),
            r#""data.a" is not a known field selector: only "metadata.name", "metadata.namespace""#
        );
        assert_eq!(refused("", "v1", "pods", "data.a=1"), "field label not supported: data.a");
        assert_eq!(refused("", "v1", "nodes", "metadata.namespace=a"), "field label not supported: metadata.namespace");
        assert_eq!(refused("batch", "v1", "jobs", "a=1"), r#"field label "a" not supported for Job"#);
        assert_eq!(
            refused("resource.k8s.io", "v1", "resourceslices", "a=1"),
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: a"
        );
        assert_eq!(refused("", "v1", "services", "spec.clusterIP=None,metadata.namespace=a"), "");
    }
}
