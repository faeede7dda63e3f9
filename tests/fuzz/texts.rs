//! Small languages: selectors, quantities, times, patterns.

use std::str::FromStr;

use k3s_api::quantity::Quantity;
use k3s_api::selector::{fields, labels};
use k3s_api::{go_regex, time};

use crate::choices::Choices;
use crate::{Outcome, same};

const SELECTOR: &[&str] = &[
    "a",
    "b.c/d",
    "=",
    "==",
    "!=",
    "!",
    ",",
    " in ",
    " notin ",
    "(",
    ")",
    " ",
    "<",
    ">",
    "1",
    "-",
    "\\",
    "metadata.name",
];
const QUANTITY: &[&str] = &["1", "0", ".", "5", "-", "+", "e", "E", "Ki", "m", "n", "Ei", "999999999999999999", "k"];

const PATTERN: &[&str] = &[
    "2026",
    "-",
    "01",
    "T",
    ":",
    "00",
    "Z",
    ".",
    "9",
    "+",
    "a",
    "[",
    "]",
    "^",
    "(",
    ")",
    "?",
    "*",
    "{",
    "}",
    "1000",
    ",",
    "|",
    "\\pL",
    "\\d",
    "(?i)",
    "$",
    "\\Q",
    "\\E",
    "[[:alpha:]]",
];

/// What can be read can be written and read again.
fn reads_as_it_is_written<T>(text: &str) -> Outcome
where
    T: FromStr<Err: ToString> + ToString,
{
    let Ok(value) = T::from_str(text) else { return Ok(()) };
    let written = value.to_string();
    let read = T::from_str(&written).map_err(|error| format!("{written:?}: {}", error.to_string()))?;
    same(text, &read.to_string(), &written)
}

pub fn a_label_selector_reads_as_it_is_written(mut choices: Choices<'_>) -> Outcome {
    reads_as_it_is_written::<labels::Selector>(&choices.words(SELECTOR, 12))
}

pub fn a_field_selector_reads_as_it_is_written(mut choices: Choices<'_>) -> Outcome {
    reads_as_it_is_written::<fields::Selector>(&choices.words(SELECTOR, 12))
}

pub fn a_quantity_reads_as_it_is_written(mut choices: Choices<'_>) -> Outcome {
    let (other, text) = (choices.words(QUANTITY, 12), choices.words(QUANTITY, 12));
    let Ok(quantity) = Quantity::from_str(&text) else { return Ok(()) };
    let written = quantity.to_string();
    let read = Quantity::from_str(&written).map_err(|error| format!("{written}: {error}"))?;
    same(&written, &read, &quantity)?;
    let Ok(other) = Quantity::from_str(&other) else { return Ok(()) };
    same("order", &quantity.cmp(&other), &other.cmp(&quantity).reverse())?;
    let _ =
        (quantity + other, quantity - other, -quantity, quantity.value(), quantity.milli_value(), quantity.as_f64());
    Ok(())
}

pub fn times_and_patterns_are_read_or_refused(mut choices: Choices<'_>) -> Outcome {
    let seconds = choices.rest().iter().take(8).fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let text = choices.words(PATTERN, 20);
    let _ = time::parse(&text);
    let _ = time::human_duration(seconds);
    let _ = go_regex::compile(&text);
    Ok(())
}
