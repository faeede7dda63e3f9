//! Small languages: selectors, quantities, times, patterns.

use std::str::FromStr;

use k3s_api::quantity::Quantity;
use k3s_api::selector::{fields, labels};
use k3s_api::{go_regex, time};
use proptest::collection::vec;
use proptest::prelude::*;

/// Words of a small language in any order, or any text at all.
fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![vec(prop::sample::select(of), 0..12).prop_map(|words| words.concat()), any::<String>()]
}

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

proptest! {
    #[test]
    fn a_label_selector_reads_as_it_is_written(text in words(SELECTOR)) {
        if let Ok(selector) = labels::Selector::from_str(&text) {
            let written = selector.to_string();
            let read = labels::Selector::from_str(&written).map_err(|error| TestCaseError::fail(format!("{written}: {error}")))?;
            prop_assert_eq!(read.to_string(), written);
        }
    }

    #[test]
    fn a_field_selector_reads_as_it_is_written(text in words(SELECTOR)) {
        if let Ok(selector) = fields::Selector::from_str(&text) {
            let written = selector.to_string();
            let read = fields::Selector::from_str(&written).map_err(|error| TestCaseError::fail(format!("{written}: {error}")))?;
            prop_assert_eq!(read.to_string(), written);
        }
    }

    #[test]
    fn a_quantity_reads_as_it_is_written(text in words(QUANTITY), other in words(QUANTITY)) {
        if let Ok(quantity) = Quantity::from_str(&text) {
            let written = quantity.to_string();
            let read = Quantity::from_str(&written).map_err(|error| TestCaseError::fail(format!("{written}: {error}")))?;
            prop_assert_eq!(read, quantity, "{} is written {}", text, written);
            if let Ok(other) = Quantity::from_str(&other) {
                prop_assert_eq!(quantity.cmp(&other), other.cmp(&quantity).reverse());
                let _ = (quantity + other, quantity - other, -quantity, quantity.value(), quantity.milli_value(), quantity.as_f64());
            }
        }
    }

    #[test]
    fn times_and_patterns_are_read_or_refused(text in any::<String>(), seconds in any::<i64>()) {
        let _ = time::parse(&text);
        let _ = time::human_duration(seconds);
        let _ = go_regex::compile(&text);
    }
}
