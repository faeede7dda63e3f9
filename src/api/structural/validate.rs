//! Whether a value is what its schema says: the keywords of OpenAPI v3, with the messages of Kubernetes' validator.

use serde_json::Value;

use super::{Kind, Structural, correlated, format};
use crate::number::shortest;
use crate::quote::quote;
use crate::validation::{FieldError, Shown, Verbatim};

/// Adds what is wrong with an object. On update, what was wrong before and has not changed is let be.
pub fn validate(schema: &Structural, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    errors.extend(check(schema, new, old, "").errors);
}

/// What was found, and how much was as it should be: of several failing alternatives, the closest is told.
#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    matches: usize,
}

impl Found {
    fn merge(&mut self, other: Found) {
        self.matches += other.matches;
        for error in other.errors {
            self.add(error);
        }
    }

    fn add(&mut self, error: FieldError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The path as errors show it: without the dot of the root.
fn shown(path: &str) -> &str {
    path.strip_prefix('.').unwrap_or(path)
}

fn invalid(path: &str, value: impl Shown, why: &str) -> FieldError {
    let path = shown(path);
    FieldError::at_text(path, value, format!("{path} in body {why}"))
}

fn check(schema: &Structural, value: &Value, old: Option<&Value>, path: &str) -> Found {
    // Ratcheting: what an update leaves as it was is not looked at again.
    if old == Some(value) && !path.is_empty() {
        return Found::default();
    }
    let mut found = Found::default();
    if value.is_null() {
        check_type(schema, value, path, &mut found);
        check_enum(schema, value, path, &mut found);
        return found;
    }
    check_type(schema, value, path, &mut found);
    check_alternatives(schema, value, old, path, &mut found);
    match value {
        Value::String(text) => check_text(schema, text, path, &mut found),
        Value::Number(number) => check_number(schema, value, number.as_f64().unwrap_or_default(), path, &mut found),
        Value::Array(items) => check_list(schema, items, old, path, &mut found),
        _ => {}
    }
    check_enum(schema, value, path, &mut found);
    if let Value::Object(fields) = value {
        check_object(schema, fields, old, path, &mut found);
    }
    found.matches += 1;
    found
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() && number.as_f64().is_some_and(|n| n.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(schema: &Structural, value: &Value, path: &str, found: &mut Found) {
    let given = type_of(value);
    let (fits, wanted) = match schema.kind {
        _ if schema.int_or_string => (matches!(given, "integer" | "string"), "integer,string"),
        None => (true, ""),
        Some(kind) => (kind.name() == given || kind == Kind::Number && given == "integer", kind.name()),
    };
    if fits || value.is_null() && schema.nullable {
        found.matches += 1;
        return;
    }
    let at = shown(path);
    let why = format!("{at} in body must be of type {wanted}: {}", quote(given));
    found.add(FieldError::type_at_text(at, given, why));
}

fn check_enum(schema: &Structural, value: &Value, path: &str, found: &mut Found) {
    if schema.values.is_empty() || schema.values.contains(value) || value.is_null() && schema.nullable {
        return;
    }
    let texts: Vec<String> =
        schema.values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    found.add(FieldError::not_supported_at_text(shown(path), value, &texts));
}

fn check_text(schema: &Structural, text: &str, path: &str, found: &mut Found) {
    let limits = &schema.limits;
    let length = text.chars().count() as u64;
    if let Some(limit) = limits.max_length.filter(|limit| length > *limit) {
        found.add(FieldError::too_long_at_text(shown(path), limit));
    } else if let Some(limit) = limits.min_length.filter(|limit| length < *limit) {
        found.add(invalid(path, text, &format!("should be at least {limit} chars long")));
    } else if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        found.add(invalid(path, text, &format!("should match '{}'", pattern.text)));
    }
    let format = schema.format.as_deref().filter(|_| schema.kind == Some(Kind::String));
    if let Some(format) = format.filter(|format| !format::has(text, format)) {
        let at = shown(path);
        let why = format!("{at} in body must be of type {format}: {}", quote(text));
        found.add(FieldError::type_at_text(at, text, why));
    }
    found.matches += 1;
}

fn check_number(schema: &Structural, value: &Value, number: f64, path: &str, found: &mut Found) {
    let limits = &schema.limits;
    let mut wrong = |why: String| found.add(invalid(path, value, &why));
    if let Some(of) = limits.multiple_of.filter(|of| *of != 0.0 && ((number / of) - (number / of).round()).abs() > 1e-9)
    {
        wrong(format!("should be a multiple of {}", shortest(of)));
    }
    if let Some(limit) = limits.maximum {
        let limit_text = shortest(limit);
        match limits.exclusive_maximum {
            true if number >= limit => wrong(format!("should be less than {limit_text}")),
            false if number > limit => wrong(format!("should be less than or equal to {limit_text}")),
            _ => {}
        }
    }
    if let Some(limit) = limits.minimum {
        let limit_text = shortest(limit);
        match limits.exclusive_minimum {
            true if number <= limit => wrong(format!("should be greater than {limit_text}")),
            false if number < limit => wrong(format!("should be greater than or equal to {limit_text}")),
            _ => {}
        }
    }
    let whole = number.fract() == 0.0;
    let range = match schema.format.as_deref() {
        Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    };
    if let Some((least, most)) = range
        && whole
        && !(least..=most).contains(&number)
    {
        let shown = Verbatim(value.to_string());
        found.add(invalid(path, shown, &format!("must be of type int32: {}", quote(&value.to_string()))));
    }
    found.matches += 1;
}

fn check_list(schema: &Structural, items: &[Value], old: Option<&Value>, path: &str, found: &mut Found) {
    if let Some(item_schema) = schema.items() {
        for (index, item) in items.iter().enumerate() {
            let old = correlated(schema, old, item);
            found.merge(check(item_schema, item, old, &format!("{path}[{index}]")));
        }
    }
    let count = items.len() as u64;
    if let Some(limit) = schema.limits.min_items.filter(|limit| count < *limit) {
        let why = format!("should have at least {limit} items");
        found.add(invalid(path, Verbatim(count.to_string()), &why));
    }
    if let Some(limit) = schema.limits.max_items.filter(|limit| count > *limit) {
        found.add(FieldError::too_many_at_text(shown(path), count, limit));
    }
    if schema.limits.unique_items && items.iter().enumerate().any(|(at, item)| items[..at].contains(item)) {
        found.add(invalid(path, "", "shouldn't contain duplicates"));
    }
    found.matches += 1;
}

fn check_object(
    schema: &Structural,
    fields: &serde_json::Map<String, Value>,
    old: Option<&Value>,
    path: &str,
    found: &mut Found,
) {
    let count = fields.len() as u64;
    if let Some(limit) = schema.limits.min_properties.filter(|limit| count < *limit) {
        let why = format!("should have at least {limit} properties");
        return found.add(invalid(path, Verbatim(count.to_string()), &why));
    }
    if let Some(limit) = schema.limits.max_properties.filter(|limit| count > *limit) {
        return found.add(FieldError::too_many_at_text(shown(path), count, limit));
    }
    for (name, value) in fields {
        // What every object has is checked as that of built-in ones.
        if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(schema) = schema.child(name) {
            let old = old.and_then(|old| old.get(name));
            found.merge(check(schema, value, old, &format!("{path}.{name}")));
        }
    }
    for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
        found.add(FieldError::required_at_text(shown(&format!("{path}.{name}"))));
    }
    found.matches += 1;
}

/// `allOf`, `anyOf`, `oneOf`, `not`.
fn check_alternatives(schema: &Structural, value: &Value, old: Option<&Value>, path: &str, found: &mut Found) {
    let composite = |why: String| FieldError::nowhere("", format!("{} {why}", quote(shown(path))));
    let results = |alternatives: &[Structural]| -> Vec<Found> {
        alternatives.iter().map(|alternative| check(alternative, value, old, path)).collect()
    };
    // Of those with as many matches, the first.
    let closest = |results: Vec<Found>| {
        results.into_iter().reduce(|best, other| if other.matches > best.matches { other } else { best })
    };
    if !schema.any_of.is_empty() {
        let results = results(&schema.any_of);
        if !results.iter().any(Found::is_valid) {
            found.add(composite("must validate at least one schema (anyOf)".to_owned()));
            found.merge(closest(results).unwrap_or_default());
        }
    }
    if !schema.one_of.is_empty() {
        let results = results(&schema.one_of);
        match results.iter().filter(|found| found.is_valid()).count() {
            1 => {}
            0 => {
                let why = "must validate one and only one schema (oneOf). Found none valid";
                found.add(composite(why.to_owned()));
                found.merge(closest(results).unwrap_or_default());
            }
            count => {
                let why = format!("must validate one and only one schema (oneOf). Found {count} valid alternatives");
                found.add(composite(why));
            }
        }
    }
    if !schema.all_of.is_empty() {
        let (mut valid, all) = (0, schema.all_of.len());
        for result in results(&schema.all_of) {
            valid += usize::from(result.is_valid());
            found.merge(result);
        }
        if valid < all {
            let none = if valid == 0 { ". None validated" } else { "" };
            found.add(composite(format!("must validate all the schemas (allOf){none}")));
        }
    }
    if let Some(not) = &schema.not
        && check(not, value, None, path).is_valid()
    {
        found.add(composite("must not validate the schema (not)".to_owned()));
    }
    found.matches += 1;
}
