//! Durations in Go's form, and the parts of times.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    let int = |value: i64| Some(Ok(Value::Int(value)));
    match (name, args) {
        ("getHours", [Value::Duration(of)]) => int(of.as_hours()),
        ("getMinutes", [Value::Duration(of)]) => int(of.as_mins()),
        ("getSeconds", [Value::Duration(of)]) => int(of.as_secs()),
        ("getMilliseconds", [Value::Duration(of)]) => int(i64::from(of.subsec_millis())),
        (name, [Value::Timestamp(at)]) => part(name, &at.to_zoned(TimeZone::UTC)).map(|part| Ok(Value::Int(part))),
        (name, [Value::Timestamp(at), Value::String(zone)]) => match zoned(*at, zone) {
            Some(at) => part(name, &at).map(|part| Ok(Value::Int(part))),
            None => Some(Err(Error::message(format!("unknown time zone {zone}")))),
        },
        _ => None,
    }
}

/// A time in a zone of the time zone database, or at a fixed offset (`-08:00`).
fn zoned(at: Timestamp, zone: &str) -> Option<Zoned> {
    let fixed = || {
        let (hours, minutes) = zone.split_once(':')?;
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let offset = jiff::tz::Offset::from_seconds(hours * 3600 + sign * minutes * 60).ok()?;
        Some(TimeZone::fixed(offset))
    };
    let zone = if zone == "UTC" || zone.is_empty() { Some(TimeZone::UTC) } else { fixed() };
    zone.map(|zone| at.to_zoned(zone))
}

/// Months, days of month and days of year count from 0, as do days of the week from Sunday; `getDate` counts from 1.
fn part(name: &str, at: &Zoned) -> Option<i64> {
    Some(match name {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => at.day().into(),
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        "getMilliseconds" => at.millisecond().into(),
        _ => return None,
    })
}

/// A time or duration that is too large.
pub fn overflow() -> Error {
    Error::message("timestamp overflow")
}

/// A duration as Go reads it: `1h30m`, `1.5s`, `-2ms`.
pub fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 {
            return None;
        }
        nanos += if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * unit };
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            nanos += i128::from(digit.to_digit(10)?) * scale;
        }
        rest = tail;
    }
    let nanos = if negative { -nanos } else { nanos };
    i64::try_from(nanos).ok().map(SignedDuration::from_nanos)
}

/// A duration as CEL prints it: seconds (`5400s`, `1.5s`).
pub fn format_duration(of: SignedDuration) -> String {
    let nanos = of.as_nanos();
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    format!("{sign}{seconds}.{}s", format!("{fraction:09}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, printed) in [
            ("1h30m", Some("5400s")),
            ("1.5s", Some("1.5s")),
            ("-2ms", Some("-0.002s")),
            ("0", Some("0s")),
            ("1", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("99999999h", None),
        ] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), printed, "{text}");
        }
    }
}
