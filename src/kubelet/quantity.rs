//! Resource quantities as numbers.
//!
//! Grammar: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A resource list as Kubernetes has it.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// The value in thousandths, rounded up; `None` if it is no quantity.
pub(crate) fn millis(quantity: &Quantity) -> Option<i64> {
    parse_scaled(&quantity.0, 1000)
}

/// The value in whole units, rounded up; `None` if it is no quantity.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    parse_scaled(&quantity.0, 1)
}

/// Whole units as a quantity.
pub(crate) fn of(value: i64) -> Quantity {
    Quantity(value.to_string())
}

fn parse_scaled(text: &str, scale: i128) -> Option<i64> {
    let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = suffix_factor(suffix)?;
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10i128.checked_pow(fraction.len() as u32)?.checked_mul(denominator)?;
    let scaled = mantissa.checked_mul(numerator)?.checked_mul(scale)?;
    let rounded = scaled / divisor + i128::from(scaled % divisor != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_value_kubernetes_gives_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100m", Some(100)),
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("0.0001", Some(1)),
            ("2k", Some(2_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1e3", Some(1_000_000)),
            ("1E-3", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("one", None),
            ("1 Gi", None),
        ] {
            assert_eq!(millis(&Quantity(text.into())), expected, "{text:?}");
        }
        assert_eq!(value(&Quantity("1.5Gi".into())), Some(1_610_612_736));
        assert_eq!(value(&Quantity("100m".into())), Some(1));
    }
}
