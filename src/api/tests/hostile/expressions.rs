//! Expressions of policies and of schemas.

use std::time::{Duration, Instant};

use k3s_api::cel::{Activation, Environment, PER_CALL_LIMIT, Type, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

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

fn run(source: &str) -> Result<(), TestCaseError> {
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
    prop_assert!(begin.elapsed() < LIMIT, "{} took {:?}", source, begin.elapsed());
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error(source in any::<String>()) {
        run(&source)?;
    }

    #[test]
    fn any_words_are_a_value_or_an_error(words in vec(prop::sample::select(WORDS), 0..30)) {
        run(&words.concat())?;
    }
}

/// What can be nested, and what closes it.
const NESTED: &[(&str, &str)] = &[
    ("(", ")"),
    ("[", "]"),
    ("!", ""),
    ("-", ""),
    ("{1:", "}"),
    ("object.list.all(y, ", ")"),
    ("1+(", ")"),
    ("true?1:", ""),
    ("1 in ", ""),
    ("object.a", ".a"),
    ("dyn(", ")"),
];

#[test]
fn nesting_is_bounded_on_a_small_stack() {
    for (open, close) in NESTED {
        for depth in [10, 60, 100, 200, 249, 251, 1_000, 3_900] {
            let sources = [
                open.repeat(depth),
                format!("{}1{}", open.repeat(depth), close.repeat(depth)),
                format!("{}true{}", open.repeat(depth), close.repeat(depth)),
            ];
            // As small as the server's threads have it.
            let thread = std::thread::Builder::new().stack_size(1 << 20);
            let thread = thread.spawn(move || sources.iter().try_for_each(|source| run(source))).expect("a thread");
            thread.join().expect("a thread that ends").unwrap_or_else(|error| panic!("{open} {depth}: {error}"));
        }
    }
}

#[test]
fn loops_in_loops_meet_the_cost_limit() {
    for depth in 1..6 {
        let source = format!("{}true{}", "lists.range(10000).all(y, ".repeat(depth), ")".repeat(depth));
        run(&source).unwrap_or_else(|error| panic!("{error}"));
    }
}
