//! URLs, as Go's `net/url` takes them apart.

use std::sync::Arc;

use super::super::eval::Error;
use super::super::value::Value;
use super::Returned;
use super::opaque::Opaque;

pub const DECLARATIONS: &str = "
url(string) -> kubernetes.URL
isURL(string) -> bool
kubernetes.URL.getScheme() -> string
kubernetes.URL.getHost() -> string
kubernetes.URL.getHostname() -> string
kubernetes.URL.getPort() -> string
kubernetes.URL.getEscapedPath() -> string
kubernetes.URL.getQuery() -> map(string, list(string))
";

/// The parts of a URL: an absolute one, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub text: String,
    pub scheme: String,
    /// With the port, and an IPv6 address in brackets.
    pub host: String,
    pub path: String,
    pub query: String,
}

impl Url {
    /// Reads one. None if it is none (Go: `url.ParseRequestURI`).
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (scheme, rest) = match text.strip_prefix('/') {
            Some(_) => ("", text),
            None => {
                let (scheme, rest) = text.split_once(':')?;
                let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                if !valid || !rest.starts_with('/') {
                    return None;
                }
                (scheme, rest)
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let authority = &rest[..end];
                (authority.rsplit_once('@').map_or(authority, |(_, host)| host), &rest[end..])
            }
            None => ("", rest),
        };
        let valid_escapes = |text: &str| {
            text.split('%')
                .skip(1)
                .all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
        };
        if !valid_escapes(path) || !Self::is_host(host) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    fn is_host(host: &str) -> bool {
        let after = match host.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((_, after)) => after,
                None => return false,
            },
            None => match host.rsplit_once(':') {
                Some((name, _)) if name.contains(':') => return false,
                Some((name, _)) => &host[name.len()..],
                None => "",
            },
        };
        after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Host and port.
    fn host_port(&self) -> (&str, &str) {
        if let Some((name, after)) = self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return (name, after.strip_prefix(':').unwrap_or_default());
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

fn unescape(text: &str) -> String {
    let plain = text.replace('+', " ");
    percent_encoding::percent_decode_str(&plain).decode_utf8_lossy().into_owned()
}

fn query<'a>(text: &str) -> Value<'a> {
    let mut values: std::collections::BTreeMap<String, Vec<Value<'a>>> = Default::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(unescape(key)).or_default().push(Value::text(unescape(value)));
    }
    Value::map(values.into_iter().map(|(key, values)| (key, Value::list(values))))
}

pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Returned<'a> {
    match args {
        [Value::String(text)] => Some(match name {
            "url" => Url::parse(text).map(|url| Value::Opaque(Arc::new(Opaque::Url(url)))).ok_or_else(|| {
                Error::message(format!(
                    "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
                ))
            }),
            "isURL" => Ok(Value::Bool(Url::parse(text).is_some())),
            _ => return None,
        }),
        [Value::Opaque(own)] => {
            let Opaque::Url(url) = &**own else { return None };
            let text = |text: &str| Some(Ok(Value::text(text.to_owned())));
            match name {
                "getScheme" => text(&url.scheme),
                "getHost" => text(&url.host),
                "getHostname" => text(url.host_port().0),
                "getPort" => text(url.host_port().1),
                "getEscapedPath" => text(&url.path),
                "getQuery" => Some(Ok(query(&url.query))),
                _ => None,
            }
        }
        _ => None,
    }
}
