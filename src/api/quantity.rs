//! Quantities of resources: `500m` of CPU, `1Gi` of memory.
//!
//! A quantity is an exact decimal number with at most nine digits after the point (more are rounded away from zero), and
//! the family of suffixes it was written with. It is written back in canonical form: no fraction, the largest suffix
//! that keeps it exact, `1Gi` for `1024Mi` and `500m` for `0.5`.
//! See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
/// What a number that is too large becomes: no quantity is greater than 2^63-1 when it has to be cut.
const MAX: i128 = i64::MAX as i128 * NANOS;

/// The family of suffixes a quantity is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `n u m k M G T P E`, and none.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`, `E6`.
    DecimalExponent,
}

/// An exact amount. Two quantities are equal if their amounts are, however they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity; the messages are Kubernetes'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// So many whole units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS, format }
    }

    /// So many thousandths (millicores).
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// Whole units, rounded up.
    pub fn value(self) -> i64 {
        clamp(div_ceil(self.nanos, NANOS))
    }

    /// Thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        clamp(div_ceil(self.nanos, NANOS / 1000))
    }

    /// As a floating point number, for ratios.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The family of suffixes it is written with.
    pub fn format(self) -> Format {
        self.format
    }

    fn combined(self, other: Self, nanos: i128) -> Self {
        Self { nanos, format: if self.is_zero() { other.format } else { self.format } }
    }
}

/// Towards positive infinity, as Kubernetes rounds when it asks for whole units.
fn div_ceil(a: i128, b: i128) -> i128 {
    a.div_euclid(b) + i128::from(a.rem_euclid(b) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        let suffix = &rest[number.len()..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || !is_suffix_shaped(suffix) {
            return Err(Error::Format);
        }
        let (base, exponent, format) = interpret(suffix).ok_or(Error::Suffix)?;
        let nanos = match base {
            Base::Two => binary(whole, fraction, exponent.unsigned_abs()),
            Base::Ten => scale(whole, fraction, exponent).map_or(MAX, |(nanos, cut)| nanos + i128::from(cut)),
        };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn is_suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|c| c.is_ascii_digit())
}

#[derive(Clone, Copy)]
enum Base {
    Two,
    Ten,
}

fn interpret(suffix: &str) -> Option<(Base, i32, Format)> {
    let decimal = |exponent| Some((Base::Ten, exponent, Format::DecimalSi));
    let binary = |exponent| Some((Base::Two, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((Base::Ten, exponent, Format::DecimalExponent))
        }
    }
}

/// `whole.fraction × 10^exponent` in nanos, and whether something was cut off behind them. `None`: too large.
fn scale(whole: &str, fraction: &str, exponent: i32) -> Option<(i128, bool)> {
    let digits = whole.bytes().chain(fraction.bytes()).map(|digit| i128::from(digit - b'0'));
    // The digit at index i counts 10^(whole - 1 - i + exponent + 9) nanos.
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + 9;
    let (mut nanos, mut cut, mut count) = (0_i128, false, 0);
    for digit in digits {
        if count < kept {
            nanos = nanos.checked_mul(10)?.checked_add(digit)?;
        } else {
            cut |= digit != 0;
        }
        count += 1;
    }
    if nanos == 0 {
        return Some((0, cut));
    }
    for _ in count..kept {
        nanos = nanos.checked_mul(10)?;
    }
    Some((nanos, cut))
}

/// `whole.fraction × 2^exponent` in nanos, rounded up; cut at the greatest quantity.
fn binary(whole: &str, fraction: &str, exponent: u32) -> i128 {
    let whole = whole.bytes().try_fold(0_i128, |n, digit| n.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
    let units = whole.and_then(|n| n.checked_mul(1 << exponent)).and_then(|n| n.checked_mul(NANOS));
    let Some(units) = units.filter(|units| *units <= MAX) else { return MAX };
    // 2^60 × 10^9 × 10^9 stays below 2^127; digits behind the ninth are below any use of a fraction of a unit.
    let (mut part, mut divisor) = (0_i128, 1_i128);
    for digit in fraction.bytes().take(9) {
        part = part * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    (units + div_ceil((part << exponent) * NANOS, divisor)).min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANOS {
            let (mut number, mut power) = (self.nanos / NANOS, 0);
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && (exponent < 18 || self.format == Format::DecimalExponent) {
            number /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent != 0 => write!(f, "{number}e{exponent}"),
            Format::DecimalExponent => write!(f, "{number}"),
            _ => {
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(f, "{number}{}", suffixes[((exponent + 9) / 3) as usize])
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combined(other, self.nanos.saturating_add(other.nanos))
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn written_in_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("1023Ki", "1023Ki"),
            ("1000000", "1M"),
            ("1000Ki", "1000Ki"),
            ("1234567", "1234567"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("1E", "1E"),
            ("-1.5k", "-1500"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
            ("1.0000000001", "1000000001n"),
            ("8Ei", "9223372036854775807"),
            ("99999999999999999999999999999999999E", "9223372036854775807"),
            ("100E", "100E"),
        ] {
            assert_eq!(quantity(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for (text, error) in [
            ("", Error::Format),
            ("a", Error::Format),
            ("1.2.3", Error::Format),
            ("1 Gi", Error::Format),
            ("1Gb", Error::Format),
            ("1Kii", Error::Suffix),
            ("1mm", Error::Suffix),
            ("1e", Error::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        }
    }

    #[test]
    fn counts_exactly() {
        assert_eq!(quantity("1Gi"), quantity("1024Mi"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert_eq!((quantity("100m") + quantity("0.9")).to_string(), "1");
        assert_eq!((Quantity::ZERO + quantity("1Gi")).to_string(), "1Gi");
        assert_eq!((quantity("1Gi") - quantity("512Mi")).to_string(), "512Mi");
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("-1500m").value(), -1);
        assert_eq!(quantity("1u").milli_value(), 1);
    }
}
