//! Expressions of policies and of schemas.

use std::time::{Duration, Instant};

use k3s_api::cel::{Activation, Environment, PER_CALL_LIMIT, Type, Value};
use serde_json::json;

use crate::Outcome;
use crate::choices::Choices;

const WORDS: &[&str] = &[
    "object",
    ".",
    "list",
    "text",
    "number",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " != ",
    " < ",
    " && ",
    " || ",
    " in ",
    "!",
    "-",
    "0",
    "1",
    "9223372036854775807",
    "1.5",
    "1u",
    "'a'",
    "b'a'",
    "r'\\d'",
    "true",
    "null",
    "has(",
    "size(",
    "x",
    "all(x, ",
    "map(x, ",
    "filter(x, ",
    "exists(x, ",
    "int(",
    "string(",
    "duration('1h')",
    "timestamp('2026-01-01T00:00:00Z')",
    "matches('(a+)+$')",
    "split('')",
    "replace('', 'a')",
    "format([",
    "lists.range(1000000)",
    "quantity('1Gi')",
    "ip('::1')",
    ".orValue(1)",
    "optional.of(",
    "type(",
    "dyn(",
    "getMonth()",
    "join(',')",
    "sum()",
    "flatten()",
    "distinct()",
    "Object{",
    "'%s%d'",
];

/// Long enough for the slowest machine, short enough to tell a stall.
const LIMIT: Duration = Duration::from_secs(20);

/// Compiles and evaluates an expression.
///
/// # Errors
/// If it took too long.
pub fn evaluate(source: &str) -> Outcome {
    let object = json!({"list": [1, 2, 3], "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "number": 7, "map": {"a": null}});
    let begin = Instant::now();
    let environment = Environment::new().with("object", Type::Dyn).with("x", Type::Int);
    if let Ok(program) = environment.compile(source) {
        let activation =
            Activation::new(PER_CALL_LIMIT).with("object", Value::of_json(&object, None)).with("x", Value::Int(-1));
        if let Ok(value) = program.evaluate(&activation) {
            let _ = value.to_json();
        }
    }
    let took = begin.elapsed();
    if took < LIMIT { Ok(()) } else { Err(format!("{source} took {took:?}")) }
}

pub fn any_text_is_a_value_or_an_error(mut choices: Choices<'_>) -> Outcome {
    evaluate(&choices.words(WORDS, 30))
}
