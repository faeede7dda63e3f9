//! Points in time as API objects carry them, and ages as tables show them.

use jiff::Timestamp;
use jiff::tz::Offset;

/// `metav1.Time`: RFC 3339 in UTC, whole seconds (`2026-01-02T03:04:05Z`).
pub fn format_seconds(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 in UTC with six digits (`2026-01-02T03:04:05.000006Z`).
pub fn format_micros(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads RFC 3339 with any offset and precision. `None` if it is not a time.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// How long ago, in a few characters, as `kubectl get` shows an age (apimachinery's `duration.HumanDuration`):
/// `45s`, `5m3s`, `12m`, `3h5m`, `26h`, `4d2h`, `100d`, `3y40d`, `9y`. A moment in the future is `0s`, one further
/// away than clocks go wrong `<invalid>`.
pub fn human_duration(seconds: i64) -> String {
    let with_rest = |major: i64, unit: char, rest: i64, rest_unit: char| match rest {
        0 => format!("{major}{unit}"),
        rest => format!("{major}{unit}{rest}{rest_unit}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..=119 => format!("{seconds}s"),
        _ if minutes < 10 => with_rest(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with_rest(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => with_rest(hours / 24, 'd', hours % 24, 'h'),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => with_rest(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The age of something that happened at `since` (RFC 3339): [`human_duration`], or `<unknown>` if there is no such time.
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    match since.and_then(parse) {
        None => "<unknown>".to_owned(),
        Some(since) => human_duration(now.duration_since(since).as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubectl() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (600, "10m"),
            (10_799, "179m"),
            (3 * 3600 + 300, "3h5m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (98 * 3600, "4d2h"),
            (8 * 86_400, "8d"),
            (2 * 365 * 86_400, "2y"),
            (2 * 365 * 86_400 + 86_400 * 40, "2y40d"),
            (9 * 365 * 86_400, "9y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_are_utc_with_fixed_digits() {
        let time = parse("2026-01-02T05:04:05.0000067+02:00").expect("a time");
        assert_eq!(format_seconds(time), "2026-01-02T03:04:05Z");
        assert_eq!(format_micros(time), "2026-01-02T03:04:05.000006Z");
        assert_eq!(age(Some("2026-01-02T03:03:05Z"), time), "60s");
        assert_eq!(age(None, time), "<unknown>");
    }
}
