//! Formats of texts, as Kubernetes' validator knows them. Of a format it does not know, every text is.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Whether a text has a format.
pub fn has(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => is_date(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "duration" => crate::cel::library::time::parse_duration(text).is_some(),
        "ipv4" => matches!(text.parse(), Ok(IpAddr::V4(_))),
        "ipv6" => matches!(text.parse(), Ok(IpAddr::V6(_))),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text, format.as_bytes().get(4).copied()),
        "email" => is_email(text),
        "hostname" => !text.is_empty() && text.len() <= 255 && text.split('.').all(is_host_label),
        "uri" => crate::cel::library::is_url(text),
        "k8s-short-name" => crate::validation::names::dns1123_label(text).is_empty(),
        "k8s-long-name" => crate::validation::names::dns1123_subdomain(text).is_empty(),
        "ssn" => digits(text, &[3, 2, 4]),
        "hexcolor" => {
            let hex = text.strip_prefix('#').unwrap_or(text);
            matches!(hex.len(), 3 | 6) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => true,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339, with a `T` between date and time.
fn is_date_time(text: &str) -> bool {
    text.len() >= 20
        && text.as_bytes().get(10).is_some_and(|byte| matches!(byte, b'T' | b't'))
        && text.is_ascii()
        && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// With or without dashes; of a version if one is asked for.
fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    plain.len() == 32
        && (text.len() == 32 || text.len() == 36)
        && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
        && version.is_none_or(|version| plain.as_bytes()[12] == version)
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !text.contains(' '))
}

fn is_host_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn digits(text: &str, groups: &[usize]) -> bool {
    let parts: Vec<&str> = text.split(['-', ' ']).collect();
    parts.len() == groups.len()
        && parts.iter().zip(groups).all(|(part, len)| part.len() == *len && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn texts_have_formats_or_not() {
        for (format, good, bad) in [
            ("date-time", "2024-01-01T00:00:00Z", "2024-01-01"),
            ("date", "2024-02-29", "2023-02-29"),
            ("byte", "YQ==", "a"),
            ("ipv4", "10.0.0.1", "::1"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("mac", "01:02:03:04:05:06", "01:02"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("email", "a@b.example", "a"),
            ("uri", "http://a.example/b", "a b"),
            ("duration", "1h", "1"),
        ] {
            assert!(has(good, format), "{format} {good}");
            assert!(!has(bad, format), "{format} {bad}");
        }
        assert!(has("anything", "of-nobody"));
    }
}
