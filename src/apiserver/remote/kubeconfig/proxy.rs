//! `proxy-url`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::Error;
use crate::remote::connect::Proxy;

/// Reads `http://`, `socks5://` or `socks5h://`, with a user and a password where the proxy wants them.
///
/// # Errors
/// If it is none of these.
pub(super) fn parse(url: &str) -> Result<Proxy, Error> {
    let wrong = |why: String| Error::Part("proxy-url", why);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(format!("{url:?} has no scheme")))?;
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let user = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        (decode(name), decode(password))
    });
    let address: Uri = format!("{scheme}://{host}").parse().map_err(|error| wrong(format!("{host:?}: {error}")))?;
    if address.host().is_none_or(str::is_empty) {
        return Err(wrong("it names no host".to_owned()));
    }
    match scheme {
        "http" => {
            let credentials = user.map(|(name, password)| STANDARD.encode(format!("{name}:{password}")));
            let header = |pair: String| HeaderValue::from_str(&format!("Basic {pair}"));
            let credentials = credentials.map(header).transpose().map_err(|error| wrong(error.to_string()))?;
            Ok(Proxy::Http(address, credentials))
        }
        "socks5" | "socks5h" => Ok(Proxy::Socks(address, user)),
        other => Err(wrong(format!("proxies speak http or socks5 here, not {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_as_its_url_says() {
        let Proxy::Http(address, credentials) = parse("http://me:se%40same@proxy:3128").unwrap() else {
            panic!("no http proxy")
        };
        assert_eq!(address, "http://proxy:3128");
        assert_eq!(credentials.unwrap(), "Basic bWU6c2VAc2FtZQ==");
        let Proxy::Socks(address, credentials) = parse("socks5://proxy:1080").unwrap() else {
            panic!("no socks proxy")
        };
        assert_eq!((address.host(), credentials), (Some("proxy"), None));
        for bad in ["proxy:3128", "https://proxy", "ftp://proxy", "http://", "http://me@"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
