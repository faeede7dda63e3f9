//! A certificate and its key, as Go's TLS library looks for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Why the pair in a secret cannot be loaded, as far as the PEM blocks tell.
pub(super) fn complaint(secret: &Value) -> Option<String> {
    let data = |key: &str| {
        let text = secret.get("data").and_then(|data| data.get(key)).and_then(Value::as_str).unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    let (certificate, key) = (block_types(&data("tls.crt")), block_types(&data("tls.key")));
    let is_key = |kind: &str| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    let shown = |types: &[String]| format!("[{}]", types.join(" "));
    if !certificate.iter().any(|kind| kind == "CERTIFICATE") {
        return Some(match certificate.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [only] if is_key(only) => "tls: failed to find certificate PEM data in certificate input, but did find a \
                                       private key; PEM inputs may have been switched"
                .to_owned(),
            skipped => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: {}",
                shown(skipped)
            ),
        });
    }
    if !key.iter().any(|kind| is_key(kind)) {
        return Some(match key.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [only] if only == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
            }
            skipped => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks \
                 of the following types: {}",
                shown(skipped)
            ),
        });
    }
    None
}

/// The types of the PEM blocks of a text, in order.
fn block_types(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let begun = text.lines().filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    begun.filter(|kind| text.contains(&format!("-----END {kind}-----"))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_that_are_missing_or_switched_are_told() {
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
        let told = |certificate: &str, key: &str| {
            let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
            complaint(&json!({"data": {"tls.crt": certificate, "tls.key": key}})).unwrap_or_default()
        };
        let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        assert_eq!(told("x", "x"), "tls: failed to find any PEM data in certificate input");
        assert_eq!(told(&certificate, "x"), "tls: failed to find any PEM data in key input");
        assert!(told(&key, &certificate).ends_with("PEM inputs may have been switched"));
        assert_eq!(
            told(&certificate, &certificate),
            "tls: found a certificate rather than a key in the PEM for the private key"
        );
        assert!(told(&block("X"), &key).ends_with("following types: [X]"));
        assert_eq!(told(&certificate, &key), "");
    }
}
