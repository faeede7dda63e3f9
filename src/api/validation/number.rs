//! Numbers, percentages and amounts.

use super::node::{Errors, Node};
use crate::quantity::Quantity;

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// The number before a percent sign.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A number or a percentage, not negative.
pub fn positive_int_or_percent(node: &Node, errors: &mut Errors) {
    if node.value.is_string() {
        if percent(node.text()).is_none() {
            node.invalid(errors, PERCENT);
        }
    } else {
        node.non_negative(errors);
    }
}

/// A percentage of at most 100.
pub fn not_more_than_100_percent(node: &Node, errors: &mut Errors) {
    if percent(node.text()).is_some_and(|percent| percent > 100) {
        node.invalid(errors, "must not be greater than 100%");
    }
}

/// What a number or percentage counts as when only its being zero matters.
pub fn int_or_percent(node: &Node) -> i64 {
    node.int().or_else(|| percent(node.text())).unwrap_or(0)
}

/// The amount here; decoding has refused what is none.
pub fn quantity(node: &Node) -> Quantity {
    node.text().parse().unwrap_or(Quantity::ZERO)
}

/// An amount that must not be less than nothing.
pub fn non_negative_quantity(node: &Node, errors: &mut Errors) {
    if node.is_set() && quantity(node).is_negative() {
        node.invalid(errors, "must be greater than or equal to 0");
    }
}
