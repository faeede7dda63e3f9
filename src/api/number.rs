//! Floating point numbers: as Go's `%v` prints them, and as whole numbers.

/// The shortest form that reads back as the same number; with an exponent below 1e-4 and from 1e21 on.
pub fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        if let Some((mantissa, exponent)) = text.split_once('e') {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
    }
    format!("{value}")
}

/// The same number as an integer, if it is one, and one that both forms tell apart from its neighbours.
pub fn integral(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and within the bounds")]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::{integral, shortest};

    #[test]
    fn whole_numbers_are_integers() {
        assert_eq!((integral(1.0), integral(-0.0), integral(-3.0)), (Some(1), Some(0), Some(-3)));
        for value in [1.5, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(integral(value), None);
        }
    }

    #[test]
    fn numbers_print_as_in_go() {
        for (value, text) in [
            (10.0, "10"),
            (0.5, "0.5"),
            (-1.25, "-1.25"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-07"),
        ] {
            assert_eq!(shortest(value), text);
        }
    }
}
