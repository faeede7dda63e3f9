//! CertificateSigningRequests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::node::{Errors, Node};

/// What keys may be used for, sorted.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const SHORTEST: i64 = 600;

pub fn signing_request(request: &Value, errors: &mut Errors) {
    let root = Node::root(request);
    let spec = root.field("spec");
    let body = spec.field("request");
    if !is_request(body.text()) {
        body.invalid(errors, "PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.field("usages");
    if usages.is_empty() {
        usages.required(errors, "");
    }
    usages.items().for_each(|usage| usage.one_of(errors, &USAGES));
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        if !seen.insert(usage.text().to_owned()) {
            usage.duplicate(errors);
        }
    }
    let signer = spec.field("signerName");
    match signer.text() {
        "kubernetes.io/legacy-unknown" => {
            signer.invalid(errors, "the legacy signerName is not allowed via this API version");
        }
        _ => signer_name(&signer, errors),
    }
    let seconds = spec.field("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < SHORTEST) {
        seconds.invalid(errors, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}

/// Whether a base64 text is a request in PEM, by its first line.
fn is_request(text: &str) -> bool {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    let begin = "-----BEGIN CERTIFICATE REQUEST-----";
    text.lines().find(|line| line.starts_with("-----BEGIN ")).is_some_and(|line| line.trim_end() == begin)
}

/// `domain.example/name`: who is to sign.
fn signer_name(signer: &Node, errors: &mut Errors) {
    if !signer.require(errors) {
        return;
    }
    let parts: Vec<&str> = signer.text().split('/').collect();
    let [domain, path] = parts[..] else {
        return signer
            .invalid(errors, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    };
    let labels = |text: &str, whole: &str, rule: fn(&str) -> Vec<String>, errors: &mut Errors| {
        for label in text.split('.') {
            let wrong = rule(label);
            let failed = !wrong.is_empty();
            for why in wrong {
                signer.invalid_as(whole, errors, format!("validating label \"{label}\": {why}"));
            }
            if failed {
                break;
            }
        }
    };
    labels(domain, domain, names::dns1123_label, errors);
    if !domain.contains('.') {
        signer.invalid_as(domain, errors, "should be a domain with at least two segments separated by dots");
    }
    labels(path, path, names::dns1123_subdomain, errors);
}

/// What is decided about a request, of its `approval` and `status`: each kind of decision once, and not both.
pub fn decisions(new: &Value, _old: &Value, errors: &mut Errors) {
    let root = Node::root(new);
    let status = root.field("status");
    let conditions = status.field("conditions");
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let (kind, truth) = (condition.field("type"), condition.field("status"));
        if kind.is_empty() {
            kind.required(errors, "");
        }
        match (truth.text(), kind.text()) {
            ("", _) => truth.required(errors, ""),
            ("True", _) => {}
            ("False" | "Unknown", "Approved" | "Denied" | "Failed") => truth.not_supported(errors, &["True"]),
            ("False" | "Unknown", _) => {}
            _ => truth.not_supported(errors, &["False", "True", "Unknown"]),
        }
        let opposite = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && seen.contains(opposite) {
            kind.invalid(errors, "Approved and Denied conditions are mutually exclusive");
        }
        if !seen.insert(kind.text().to_owned()) {
            kind.duplicate(errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(spec: Value) -> Vec<String> {
        crate::validation::wrong(signing_request, json!({"spec": spec}))
    }

    #[test]
    fn a_request_says_who_signs_what_for_what() {
        use base64::Engine;
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n";
        let pem = base64::engine::general_purpose::STANDARD.encode(pem);
        assert!(wrong(json!({"request": pem, "usages": ["client auth"], "signerName": "a.example/b"})).is_empty());
        assert_eq!(
            wrong(json!({"request": "eA==", "usages": [], "signerName": "a"})),
            [
                r#"spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST"#,
                "spec.usages: Required value",
                r#"spec.signerName: Invalid value: "a": must be a fully qualified domain and path of the form 'example.com/signer-name'"#,
            ]
        );
    }
}
