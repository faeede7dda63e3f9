//! Label selectors: `app=web,tier in (a, b),!canary`, and the `LabelSelector` objects that say the same.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::Error;
use crate::quote::quote;
use crate::validation::names::{label_value, qualified_name};

/// Requirements that all must hold. None selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    /// Both are integers, and the label is greater.
    GreaterThan,
    LessThan,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Selects what has exactly these labels among its labels (a Service's or ReplicationController's selector).
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: BTreeSet::from([value.as_str().unwrap_or_default().to_owned()]),
            })
            .collect();
        Self { requirements, nothing: false }
    }

    /// A `metav1.LabelSelector`: absent (or null) selects nothing, an empty one everything.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, Error> {
        let Some(selector) = selector.and_then(Value::as_object) else { return Ok(Self::nothing()) };
        let mut selected =
            selector.get("matchLabels").and_then(Value::as_object).map(Self::from_map).unwrap_or_default();
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(Error(format!("{} is not a valid label selector operator", quote(other)))),
            };
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            selected.requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        selected.sort();
        Ok(selected)
    }

    fn sort(&mut self) {
        self.requirements.sort_by(|a, b| a.key.cmp(&b.key));
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Its conditions, by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels (`metadata.labels`, if it has any) is selected.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }

    /// Whether an object is selected whose labels `get` looks up.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(get(&requirement.key)))
    }
}

impl Requirement {
    fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, Error> {
        let mut errors = Vec::new();
        let mut invalid = |path: &str, value: &str, why: &str| {
            errors.push(format!("{path}: Invalid value: {}: {why}", quote(value)));
        };
        let key_errors = qualified_name(key);
        if !key_errors.is_empty() {
            invalid("key", key, &key_errors.join("; "));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned(),
                );
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let values: Vec<_> = values.iter().map(|value| quote(value)).collect();
                errors.push(format!(
                    "values: Invalid value: [{}]: values set must be empty for exists and does not exist",
                    values.join(",")
                ));
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.push(format!("values[{index}]: Invalid value: {}: {why}", quote(value)));
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let why = label_value(value);
            if !why.is_empty() {
                errors.push(format!("values[{index}][{key}]: Invalid value: {}: {}", quote(value), why.join("; ")));
            }
        }
        if errors.is_empty() {
            Ok(Self { key: key.to_owned(), operator, values })
        } else {
            Err(Error(crate::status::aggregate(&errors)))
        }
    }

    /// The label it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it compares.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it compares with, sorted.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let than = |wanted: std::cmp::Ordering| {
            let number = |text: &str| text.parse::<i64>().ok();
            let (Some(label), Some(bound)) = (label.and_then(number), self.values.first().and_then(|v| number(v)))
            else {
                return false;
            };
            label.cmp(&bound) == wanted
        };
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => label.is_some_and(|l| self.values.contains(l)),
            Operator::NotIn | Operator::NotEquals => label.is_none_or(|label| !self.values.contains(label)),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => than(std::cmp::Ordering::Greater),
            Operator::LessThan => than(std::cmp::Ordering::Less),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || self.values().collect::<Vec<_>>().join(",");
        let Self { key, operator, .. } = self;
        match operator {
            Operator::In => write!(f, "{key} in ({})", all()),
            Operator::NotIn => write!(f, "{key} notin ({})", all()),
            Operator::Equals => write!(f, "{key}={}", all()),
            Operator::DoubleEquals => write!(f, "{key}=={}", all()),
            Operator::NotEquals => write!(f, "{key}!={}", all()),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{}", all()),
            Operator::LessThan => write!(f, "{key}<{}", all()),
        }
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut selector = Parser { tokens: scan(text), next: 0 }.parse()?;
        selector.sort();
        Ok(selector)
    }
}

/// A token and how it was written.
type Token<'a> = (Kind, &'a str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    Identifier,
    /// `in` or `notin`: an operator behind a key, an identifier elsewhere.
    Word(Operator),
    Symbol(Operator),
    Not,
    Comma,
    Open,
    Close,
    Error,
}

fn scan(text: &str) -> Vec<Token<'_>> {
    const SPECIAL: &str = "=!(),><";
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if SPECIAL.contains(first) {
            if ["==", "!="].iter().any(|operator| rest.starts_with(operator)) { 2 } else { 1 }
        } else {
            rest.find(|c: char| SPECIAL.contains(c) || c.is_ascii_whitespace()).unwrap_or(rest.len())
        };
        let (token, behind) = rest.split_at(length);
        let kind = match token {
            "in" => Kind::Word(Operator::In),
            "notin" => Kind::Word(Operator::NotIn),
            "=" => Kind::Symbol(Operator::Equals),
            "==" => Kind::Symbol(Operator::DoubleEquals),
            "!=" => Kind::Symbol(Operator::NotEquals),
            ">" => Kind::Symbol(Operator::GreaterThan),
            "<" => Kind::Symbol(Operator::LessThan),
            "!" => Kind::Not,
            "," => Kind::Comma,
            "(" => Kind::Open,
            ")" => Kind::Close,
            "" => Kind::Error,
            _ => Kind::Identifier,
        };
        tokens.push((kind, token));
        rest = behind.trim_start_matches(|c: char| c.is_ascii_whitespace());
    }
    tokens.push((Kind::End, ""));
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    /// The next token where a key or value may stand: there, `in` and `notin` are names.
    fn peek(&self) -> Token<'a> {
        match self.peek_operator() {
            (Kind::Word(_), text) => (Kind::Identifier, text),
            token => token,
        }
    }

    fn peek_operator(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or((Kind::End, ""))
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn parse(mut self) -> Result<Selector, Error> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Kind::End, _) => break,
                (Kind::Identifier | Kind::Not, _) => {
                    let requirement = self.requirement();
                    requirements.push(requirement.map_err(|e| Error(format!("unable to parse requirement: {e}")))?);
                    match self.take() {
                        (Kind::End, _) => break,
                        (Kind::Comma, _) => match self.peek() {
                            (Kind::Identifier | Kind::Not, _) => {}
                            (_, text) => return Err(Error(format!("found '{text}', expected: identifier after ','"))),
                        },
                        (_, text) => return Err(Error(format!("found '{text}', expected: ',' or 'end of string'"))),
                    }
                }
                (_, text) => return Err(Error(format!("found '{text}', expected: !, identifier, or 'end of string'"))),
            }
        }
        Ok(Selector { requirements, nothing: false })
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let mut token = self.take();
        let negated = token.0 == Kind::Not;
        if negated {
            token = self.take();
        }
        let (Kind::Identifier, key) = token else {
            return Err(Error(format!("found '{}', expected: identifier", token.1)));
        };
        let errors = qualified_name(key);
        if !errors.is_empty() {
            return Err(Error(format!("<nil>: Invalid value: {}: {}", quote(key), errors.join("; "))));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.peek_operator() {
            (Kind::Word(operator) | Kind::Symbol(operator), _) => operator,
            (_, text) => return Err(Error(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt"))),
        };
        self.next += 1;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?.to_owned()]),
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<&'a str, Error> {
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Ok("");
        }
        match self.take() {
            (Kind::Identifier, value) => Ok(value),
            (_, text) => Err(Error(format!("found '{text}', expected: identifier"))),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, Error> {
        match self.take() {
            (Kind::Open, _) => {}
            (_, text) => return Err(Error(format!("found '{text}' expected: '('"))),
        }
        match self.peek() {
            (Kind::Identifier | Kind::Comma, _) => {
                let values = self.identifiers()?;
                self.next += 1; // The list ends before its closing parenthesis.
                Ok(values)
            }
            (Kind::Close, _) => {
                self.next += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            (_, text) => Err(Error(format!("found '{text}', expected: ',', ')' or identifier"))),
        }
    }

    /// Values up to the closing parenthesis. An empty place before, between or after commas is the empty value.
    fn identifiers(&mut self) -> Result<BTreeSet<String>, Error> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Kind::Identifier, value) => {
                    values.insert(value.to_owned());
                    match self.peek() {
                        (Kind::Comma, _) => {}
                        (Kind::Close, _) => return Ok(values),
                        (_, text) => return Err(Error(format!("found '{text}', expected: ',' or ')'"))),
                    }
                }
                (Kind::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Kind::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Kind::Comma => {
                            self.next += 1;
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(Error(format!("found '{text}', expected: ',', or identifier"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: Value) -> bool {
        selector.parse::<Selector>().unwrap_or_else(|e| panic!("{selector}: {e}")).matches(labels.as_object())
    }

    #[test]
    fn selects_what_meets_all_requirements() {
        let labels = || json!({"app": "web", "n": "5", "in": "x"});
        for (selector, selected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!none", true),
            ("app=web", true),
            ("app == web , n != 4", true),
            ("app=web,n=4", false),
            ("app in (a,web)", true),
            ("app notin (a,web)", false),
            ("none notin (a)", true),
            ("none!=a", true),
            ("none in ()", false),
            ("n>4", true),
            ("n<5", false),
            ("app>4", false),
            ("in=x", true),
            ("in in (in, x)", true),
            ("app=", false),
        ] {
            assert_eq!(selects(selector, labels()), selected, "{selector}");
        }
        assert!(!"app".parse::<Selector>().is_ok_and(|selector| selector.matches(None)));
        assert!(!Selector::nothing().matches(None));
    }

    #[test]
    fn says_what_is_wrong_in_kubernetes_words() {
        for (selector, error) in [
            ("i in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a b=c", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(selector.parse::<Selector>().map_err(|e| e.to_string()), Err(error.to_owned()), "{selector}");
        }
        let error = "a=-".parse::<Selector>().expect_err("no label value").to_string();
        assert!(
            error.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label"),
            "{error}"
        );
        let error = "a/b/c=1".parse::<Selector>().expect_err("no label key").to_string();
        assert!(
            error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name"),
            "{error}"
        );
    }

    #[test]
    fn a_label_selector_object_is_a_selector() {
        let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "a", "operator": "NotIn", "values": ["y", "x"]}, {"key": "z", "operator": "Exists"}]});
        let selector = Selector::from_label_selector(Some(&selector)).expect("a selector");
        assert_eq!(selector.to_string(), "a notin (x,y),app=web,z");
        assert!(selector.matches(json!({"app": "web", "z": ""}).as_object()));
        assert_eq!(Selector::from_label_selector(None), Ok(Selector::nothing()));
        assert_eq!(Selector::from_label_selector(Some(&json!({}))), Ok(Selector::everything()));
    }
}
