//! Sizes and times for people, in the form of Docker's tools, which cri-tools uses.

use std::time::Duration;

const SIZES: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

/// `4.17MB`: powers of a thousand with so many digits.
pub fn size(bytes: u64, digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < SIZES.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), SIZES[unit])
}

/// `4.1 MiB`: powers of 1024, as containerd's ctr has them.
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// As `%g` of C and Go: so many digits, without zeros at the end.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `About a minute`, `3 hours`, `2 weeks`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as u64);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a time was, given in nanoseconds since the epoch.
pub fn ago(nanos: i64) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    let since = u64::try_from(now - i128::from(nanos)).unwrap_or(0);
    format!("{} ago", duration(Duration::from_nanos(since)))
}

/// A time as RFC 3339 has it.
pub fn time(nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(nanos.into()).map_or_else(|_| nanos.to_string(), |time| time.to_string())
}

/// `2s`, `1m30s`; a number alone is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no duration such as 30s or 1m30s"))?;
    parsed.try_into().map_err(|_| format!("{text:?} is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_digits_that_were_asked_for() {
        for (bytes, text) in [(0, "0B"), (999, "999B"), (4_170_321, "4.17MB"), (1_000, "1kB"), (123_456_789, "123MB")] {
            assert_eq!(size(bytes, 3), text);
        }
        assert_eq!(size(1_234_567, 4), "1.235MB");
    }

    #[test]
    fn durations_are_rounded_as_people_speak() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (15 * 86_400, "2 weeks"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
