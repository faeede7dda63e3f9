//! What names, labels, keys and addresses may be. Each rule gives the messages of all that is wrong with a text.

/// What a name may consist of, and how an error tells it.
struct Format {
    what: &'static str,
    examples: &'static [&'static str],
    regex: &'static str,
}

impl Format {
    /// `must …(e.g. 'a',  or 'b', regex used for validation is '…')`, as Kubernetes words it.
    fn message(&self) -> String {
        let examples: Vec<String> = self.examples.iter().map(|example| format!("'{example}', ")).collect();
        format!("{} (e.g. {}regex used for validation is '{}')", self.what, examples.join(" or "), self.regex)
    }
}

const DNS1123_LABEL: Format = Format {
    what: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
    examples: &["my-name", "123-abc"],
    regex: "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
};
const DNS1123_SUBDOMAIN: Format = Format {
    what: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
    examples: &["example.com"],
    regex: r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
};
const DNS1035_LABEL: Format = Format {
    what: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
    examples: &["my-name", "abc-123"],
    regex: "[a-z]([-a-z0-9]*[a-z0-9])?",
};
const WILDCARD_DNS1123_SUBDOMAIN: Format = Format {
    what: "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    examples: &["*.example.com"],
    regex: r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
};
const QUALIFIED_NAME: Format = Format {
    what: "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    examples: &["MyName", "my.name", "123-abc"],
    regex: "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
};
const LABEL_VALUE: Format = Format {
    what: "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    examples: &["MyValue", "my_value", "12345"],
    regex: "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
};
const CONFIG_MAP_KEY: Format = Format {
    what: "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    examples: &["key.name", "KEY_NAME", "key-name"],
    regex: "[-._a-zA-Z0-9]+",
};
const C_IDENTIFIER: Format = Format {
    what: "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
    examples: &["my_name", "MY_NAME", "MyName"],
    regex: "[A-Za-z_][A-Za-z0-9_]*",
};
const HTTP_HEADER_NAME: Format = Format {
    what: "a valid HTTP header must consist of alphanumeric characters or '-'",
    examples: &["X-Header-Name"],
    regex: "[-A-Za-z0-9]+",
};

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn check(text: &str, limit: usize, fits: bool, format: &Format) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > limit {
        errors.push(too_long(limit));
    }
    if !fits {
        errors.push(format.message());
    }
    errors
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `inner` bytes between `edge` bytes; not empty.
fn is_word(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    is_word(text, is_lower_alphanumeric, |byte| is_lower_alphanumeric(byte) || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    is_word(
        text,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// RFC 1123 label: up to 63 characters.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(text) {
        // A subdomain is told what is different about a label.
        errors.push(match is_subdomain(text) {
            true => "must not contain dots".to_owned(),
            false => DNS1123_LABEL.message(),
        });
    }
    errors
}

/// RFC 1123 subdomain: labels joined by dots, up to 253 characters.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    check(text, 253, is_subdomain(text), &DNS1123_SUBDOMAIN)
}

/// RFC 1035 label: starts with a letter, up to 63 characters.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let fits = is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase());
    check(text, 63, fits, &DNS1035_LABEL)
}

/// `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let fits = text.strip_prefix("*.").is_some_and(is_subdomain);
    check(text, 253, fits, &WILDCARD_DNS1123_SUBDOMAIN)
}

/// A name with an optional DNS prefix: `name` or `example.com/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")));
            }
            name
        }
        _ => {
            let message = QUALIFIED_NAME.message().replacen("must consist", "a qualified name must consist", 1);
            return vec![format!(
                "{message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {}", QUALIFIED_NAME.message()));
    }
    errors
}

/// A label's value: up to 63 characters, may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        // Kubernetes counts bytes everywhere, and says so of labels only.
        errors.push("must be no more than 63 bytes".to_owned());
    }
    errors.extend(check(text, usize::MAX, text.is_empty() || is_qualified_part(text), &LABEL_VALUE));
    errors
}

/// A key of a ConfigMap or Secret, which is a file's name.
pub fn config_map_key(text: &str) -> Vec<String> {
    let fits =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let mut errors = check(text, 253, fits, &CONFIG_MAP_KEY);
    errors.extend(no_parent_step(text));
    errors
}

fn no_parent_step(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        text if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    errors
}

/// A variable of C.
pub fn c_identifier(text: &str) -> Vec<String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    check(text, usize::MAX, fits, &C_IDENTIFIER)
}

/// An HTTP header's name.
pub fn http_header_name(text: &str) -> Vec<String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    check(text, usize::MAX, fits, &HTTP_HEADER_NAME)
}

/// The name of a port: an IANA service name.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A port's number.
pub fn port_number(port: i64) -> Option<&'static str> {
    (!(1..=65535).contains(&port)).then_some("must be between 1 and 65535, inclusive")
}

/// What can stand in a path: anything but `.`, `..`, `/` and `%`.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        text => ['/', '%'].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect(),
    }
}

/// An IPv4 or IPv6 address.
pub fn ip_address(text: &str) -> Option<&'static str> {
    text.parse::<std::net::IpAddr>().err().map(|_| "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
}

/// An address and the length of its prefix.
pub fn cidr(text: &str) -> Option<&'static str> {
    let fits = text.split_once('/').is_some_and(|(address, length)| {
        let limit = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= limit)
    });
    (!fits).then_some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
}

/// An address as it is usually written: fields that were added to Kubernetes later take no other.
pub fn canonical_ip(text: &str) -> Option<String> {
    if let Some(message) = ip_address(text) {
        return Some(message.to_owned());
    }
    let ip: std::net::IpAddr = text.parse().ok()?;
    match ip {
        std::net::IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Some("must not be an IPv4-mapped IPv6 address".to_owned())
        }
        ip if ip.to_string() != text => Some(format!("must be in canonical form (\"{ip}\")")),
        _ => None,
    }
}

/// A range as it is usually written, with nothing set beyond its prefix.
pub fn canonical_cidr(text: &str) -> Option<String> {
    if let Some(message) = cidr(text) {
        return Some(message.to_owned());
    }
    let (address, length) = text.split_once('/')?;
    let (address, bits): (std::net::IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let beyond = match address {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96 << bits,
        std::net::IpAddr::V6(ip) => u128::from(ip).checked_shl(bits).unwrap_or(0),
    };
    if beyond != 0 {
        return Some("must not have bits set beyond the prefix length".to_owned());
    }
    let canonical = format!("{address}/{bits}");
    (canonical != text).then(|| format!("must be in canonical form (\"{canonical}\")"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["a", "a-b", "0", "a.b-c.d"] {
            assert!(dns1123_subdomain(name).is_empty(), "{name}");
        }
        assert!(dns1035_label("a-1").is_empty());
        assert!(qualified_name("example.com/My_Name.x").is_empty());
        assert!(label_value("").is_empty());
        assert!(port_name("http-80").is_empty());
        assert!(config_map_key("..data").len() == 1 && config_map_key("a.B_c-1").is_empty());
        assert_eq!(ip_address("10.0.0.1"), None);
        assert_eq!(cidr("fd00::/8"), None);
    }

    #[test]
    fn bad_names_are_told_what_a_name_is() {
        assert_eq!(
            dns1123_subdomain("Bad"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            qualified_name("a b"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(label_value(&"x".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(
            port_name("UPPER"),
            [
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert!(cidr("10.0.0.0/33").is_some() && cidr("x").is_some());
        assert_eq!(canonical_cidr("10.0.0.0/8"), None);
        assert_eq!(canonical_cidr("fd00::/128"), None);
        assert!(canonical_cidr("10.0.0.1/8").is_some_and(|why| why.contains("beyond the prefix")));
        assert!(canonical_ip("FD00::1").is_some_and(|why| why.ends_with("(\"fd00::1\")")));
    }
}
