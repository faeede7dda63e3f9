//! Bootstrap tokens: `ID.SECRET`, kept in the secret `bootstrap-token-ID` of kube-system
//! (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k3s_api::authentication::UserInfo;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Objects;

/// The user that a bootstrap token stands for; `None` if it is none, is unknown, has expired or is not for
/// authentication.
///
/// # Errors
/// If secrets cannot be read.
pub async fn user(token: &str, objects: &dyn Objects) -> Result<Option<UserInfo>, crate::registry::Error> {
    let Some((id, key)) = token.split_once('.') else { return Ok(None) };
    let word = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !word(id, 6) || !word(key, 16) {
        return Ok(None);
    }
    let secret = objects.get("secrets", "kube-system", &format!("bootstrap-token-{id}")).await?;
    Ok(secret.and_then(|secret| check(&secret, id, key)))
}

fn check(secret: &Value, id: &str, key: &str) -> Option<UserInfo> {
    if secret["type"] != "bootstrap.kubernetes.io/token" || !secret["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let data = |name: &str| {
        let bytes = STANDARD.decode(secret["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    // Digests, so that the time taken says nothing about the secret.
    let same = Sha256::digest(data("token-secret")?) == Sha256::digest(key);
    if !same || data("token-id")? != id || data("usage-bootstrap-authentication").as_deref() != Some("true") {
        return None;
    }
    if let Some(expiration) = data("expiration")
        && expiration.parse::<Timestamp>().ok()? < Timestamp::now()
    {
        return None;
    }
    let extra = data("auth-extra-groups").unwrap_or_default();
    let extra = extra.split(',').map(str::trim).filter(|group| group.starts_with("system:bootstrappers:"));
    let groups = std::iter::once("system:bootstrappers").chain(extra).map(str::to_owned).collect();
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(expiration: &str) -> Value {
        let encode = |text: &str| STANDARD.encode(text);
        json!({"type": "bootstrap.kubernetes.io/token", "metadata": {}, "data": {
            "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
            "usage-bootstrap-authentication": encode("true"), "expiration": encode(expiration),
            "auth-extra-groups": encode("system:bootstrappers:k3s,system:masters")}})
    }

    #[test]
    fn a_bootstrap_token_is_good_until_it_expires() {
        let user = check(&secret("2100-01-01T00:00:00Z"), "abcdef", "0123456789abcdef").unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:k3s"]);
        assert!(check(&secret("2100-01-01T00:00:00Z"), "abcdef", "0123456789abcdee").is_none());
        assert!(check(&secret("2000-01-01T00:00:00Z"), "abcdef", "0123456789abcdef").is_none());
    }
}
