//! Where the `scale` subresource finds its numbers, and that they are numbers.

use serde_json::Value;

use crate::validation::{FieldError, Verbatim};

/// Where in an object `scale` finds what it shows: field names from the root.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    /// Of a selector in its text form.
    pub label_selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// Adds what is wrong with the numbers.
    pub fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        for path in [&self.spec_replicas, &self.status_replicas] {
            let at = format!(".{}", path.join("."));
            let Some(value) = path.iter().try_fold(object, |value, name| value.get(name)) else { continue };
            let mut wrong = |shown: i64, why: String| {
                errors.push(FieldError::at_text(&at, Verbatim(shown.to_string()), why));
            };
            match value.as_i64() {
                Some(count) if count < 0 => wrong(count, "should be a non-negative integer".to_owned()),
                Some(count) if count > i64::from(i32::MAX) => {
                    wrong(count, format!("should be less than or equal to {}", i32::MAX));
                }
                Some(_) => {}
                None => {
                    let (text, of) = go(value);
                    wrong(0, format!("{at} accessor error: {text} is of the type {of}, expected int64"));
                }
            }
        }
    }
}

/// A value and its type as Go prints them.
fn go(value: &Value) -> (String, &'static str) {
    match value {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(value) => (value.to_string(), "bool"),
        Value::Number(number) => (number.to_string(), "float64"),
        Value::String(text) => (text.clone(), "string"),
        Value::Array(_) => (crate::quote::format_value(value), "[]interface {}"),
        Value::Object(_) => (crate::quote::format_value(value), "map[string]interface {}"),
    }
}
