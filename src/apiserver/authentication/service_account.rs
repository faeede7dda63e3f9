//! Tokens of service accounts: JSON Web Tokens that name the account, and the pod, secret or node they are bound to. A
//! token is good only as long as all of these exist, with the same uid.

use std::sync::Arc;

use jiff::Timestamp;
use k3s_api::authentication::UserInfo;
use serde_json::{Value, json};

use super::Objects;
use super::jwt::{self, PublicKey, SigningKey};
use super::verified::Verified;
use crate::registry;

/// The issuer of tokens that Secrets of type `kubernetes.io/service-account-token` hold.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Why a token that looks like a service account's is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The signature or the form is wrong.
    #[error(transparent)]
    Token(#[from] jwt::Error),
    /// `exp` has passed.
    #[error("service account token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("service account token is not valid yet")]
    NotYet,
    /// It is meant for others.
    #[error("token audiences {token:?} is invalid for the target audiences {target:?}")]
    Audience { token: Vec<String>, target: Vec<String> },
    /// A claim that must be there is not.
    #[error("service account token has no claim {0}")]
    Claim(&'static str),
    /// What the token is bound to is gone, or is another object of the same name.
    #[error("service account token has been invalidated: {kind} {name} is gone or was replaced")]
    Bound { kind: &'static str, name: String },
    /// The secret that held it no longer holds it.
    #[error("service account token has been invalidated: the secret {0} does not hold it")]
    Secret(String),
    /// What it is bound to cannot be looked up.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}

/// Issues and checks the tokens of this cluster.
#[derive(Debug)]
pub struct ServiceAccounts {
    /// What is issued says the first; what says any of them is accepted.
    issuers: Vec<String>,
    audiences: Vec<String>,
    keys: Vec<PublicKey>,
    signer: SigningKey,
    /// Signatures that these keys have made.
    verified: Verified,
}

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub user: UserInfo,
    /// The audiences it was asked for and is meant for.
    pub audiences: Vec<String>,
}

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundObject {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// What to put into a new token.
#[derive(Debug, Clone)]
pub struct Claims<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    /// With `Pod`, followed by the node it runs on when that is known.
    pub bound: &'a [BoundObject],
    /// Empty: the API server's own.
    pub audiences: &'a [String],
    pub lifetime: std::time::Duration,
    /// For tokens that live long only for old clients' sake: when to warn about their use.
    pub warn_after: Option<std::time::Duration>,
}

impl ServiceAccounts {
    /// Tokens of `issuers` (the first signs), signed by `signer`; `keys` are older or other servers' keys that are
    /// accepted besides. `audiences` are the API server's own; empty: the issuers.
    pub fn new(issuers: Vec<String>, audiences: Vec<String>, signer: SigningKey, keys: Vec<PublicKey>) -> Self {
        let mut all = vec![signer.public().clone()];
        all.extend(keys.into_iter().filter(|key| key.id != signer.public().id));
        let audiences = if audiences.is_empty() { issuers.clone() } else { audiences };
        Self { issuers, audiences, keys: all, signer, verified: Verified::default() }
    }

    /// The API server's own audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer of new tokens.
    pub fn issuer(&self) -> &str {
        self.issuers.first().map(String::as_str).unwrap_or_default()
    }

    /// The keys tokens are checked with.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// A new token and when it expires.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue(&self, claims: &Claims<'_>) -> Result<(String, Timestamp), jwt::Error> {
        let now = Timestamp::now().as_second();
        let expires = now.saturating_add(i64::try_from(claims.lifetime.as_secs()).unwrap_or(i64::MAX));
        let mut private = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.name, "uid": claims.uid},
        });
        for bound in claims.bound {
            private[bound.kind.to_ascii_lowercase()] = json!({"name": bound.name, "uid": bound.uid});
        }
        if let Some(after) = claims.warn_after {
            private["warnafter"] = json!(now.saturating_add(i64::try_from(after.as_secs()).unwrap_or(i64::MAX)));
        }
        let audiences = if claims.audiences.is_empty() { self.audiences.as_slice() } else { claims.audiences };
        let token = self.signer.sign(&json!({
            "aud": audiences, "exp": expires, "iat": now, "nbf": now, "iss": self.issuer(),
            "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": private,
            "sub": user_name(claims.namespace, claims.name),
        }))?;
        Ok((token, Timestamp::from_second(expires).unwrap_or(Timestamp::MAX)))
    }

    /// The token without an end that a Secret of type `kubernetes.io/service-account-token` holds.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue_legacy(&self, namespace: &str, name: &str, uid: &str, secret: &str) -> Result<String, jwt::Error> {
        self.signer.sign(&json!({
            "iss": LEGACY_ISSUER, "sub": user_name(namespace, name),
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
        }))
    }

    /// Whether a token claims to be one of these.
    pub fn is_ours(&self, token: &str) -> bool {
        let is_ours = |claims: &Value| {
            let issuer = claims["iss"].as_str().unwrap_or_default();
            issuer == LEGACY_ISSUER || self.issuers.iter().any(|known| known == issuer)
        };
        match self.verified.get(token) {
            Some(claims) => is_ours(&claims),
            None => jwt::unverified_claims(token).is_ok_and(|claims| is_ours(&claims)),
        }
    }

    /// What a token says that one of the keys has signed.
    fn claims(&self, token: &str) -> Result<Arc<Value>, jwt::Error> {
        if let Some(claims) = self.verified.get(token) {
            return Ok(claims);
        }
        let claims = Arc::new(jwt::verify(token, &self.keys)?);
        self.verified.insert(token, &claims);
        Ok(claims)
    }

    /// Whose token it is, if it is good now for one of `audiences` (empty: the API server's own).
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn check(&self, token: &str, audiences: &[String], objects: &dyn Objects) -> Result<Accepted, Error> {
        let claims = self.claims(token)?;
        let claims = &*claims;
        let wanted = if audiences.is_empty() { self.audiences.as_slice() } else { audiences };
        if claims["iss"] == LEGACY_ISSUER {
            return self.check_legacy(token, claims, wanted, objects).await;
        }
        // A key may sign for other issuers too.
        if !self.issuers.iter().any(|known| claims["iss"] == known.as_str()) {
            return Err(Error::Claim("iss"));
        }
        check_times(claims)?;
        let meant = strings(&claims["aud"]);
        let audiences: Vec<String> = wanted.iter().filter(|audience| meant.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(Error::Audience { token: meant, target: wanted.to_vec() });
        }
        let private = &claims["kubernetes.io"];
        let text =
            |pointer: &'static str| private.pointer(pointer).and_then(Value::as_str).ok_or(Error::Claim(pointer));
        let namespace = text("/namespace")?;
        let (name, uid) = (text("/serviceaccount/name")?, text("/serviceaccount/uid")?);
        check_object(objects, "serviceaccounts", "service account", namespace, name, uid).await?;
        let mut user = user(namespace, name, uid);
        for (kind, resource, scope) in
            [("pod", "pods", namespace), ("secret", "secrets", namespace), ("node", "nodes", "")]
        {
            let Some(bound) = private.get(kind) else { continue };
            let (Some(name), Some(uid)) = (bound["name"].as_str(), bound["uid"].as_str()) else {
                return Err(Error::Claim(kind));
            };
            // The node a pod runs on is for information; only a token bound to the node itself dies with it.
            if kind != "node" || private.get("pod").is_none() {
                check_object(objects, resource, kind, scope, name, uid).await?;
            }
            if kind != "secret" {
                user.extra.insert(format!("authentication.kubernetes.io/{kind}-name"), vec![name.to_owned()]);
                user.extra.insert(format!("authentication.kubernetes.io/{kind}-uid"), vec![uid.to_owned()]);
            }
        }
        if let Some(id) = claims["jti"].as_str() {
            user.extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        Ok(Accepted { user, audiences })
    }

    async fn check_legacy(
        &self,
        token: &str,
        claims: &Value,
        wanted: &[String],
        objects: &dyn Objects,
    ) -> Result<Accepted, Error> {
        let text = |claim: &'static str| claims[claim].as_str().ok_or(Error::Claim(claim));
        let namespace = text("kubernetes.io/serviceaccount/namespace")?;
        let secret = text("kubernetes.io/serviceaccount/secret.name")?;
        let name = text("kubernetes.io/serviceaccount/service-account.name")?;
        let uid = text("kubernetes.io/serviceaccount/service-account.uid")?;
        // Such a token says no audience and is for the API server alone.
        let audiences: Vec<String> = wanted.iter().filter(|one| self.audiences.contains(one)).cloned().collect();
        if audiences.is_empty() {
            return Err(Error::Audience { token: self.audiences.clone(), target: wanted.to_vec() });
        }
        check_object(objects, "serviceaccounts", "service account", namespace, name, uid).await?;
        let held = objects.get("secrets", namespace, secret).await?.and_then(|secret| {
            let held = secret.pointer("/data/token")?.as_str()?;
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, held).ok()
        });
        if held.as_deref() != Some(token.as_bytes()) {
            return Err(Error::Secret(secret.to_owned()));
        }
        Ok(Accepted { user: user(namespace, name, uid), audiences })
    }
}

/// The user that a service account is.
pub fn user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: user_name(namespace, name),
        uid: uid.to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..UserInfo::default()
    }
}

fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Clocks of several servers may differ by a minute, as go-jose allows.
const LEEWAY: i64 = 60;

fn check_times(claims: &Value) -> Result<(), Error> {
    let now = Timestamp::now().as_second();
    let seconds = |claim: &str| claims[claim].as_f64().map(|seconds| seconds as i64);
    if seconds("exp").ok_or(Error::Claim("exp"))? < now - LEEWAY {
        return Err(Error::Expired);
    }
    if seconds("nbf").is_some_and(|from| from > now + LEEWAY) {
        return Err(Error::NotYet);
    }
    Ok(())
}

async fn check_object(
    objects: &dyn Objects,
    resource: &str,
    kind: &'static str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let gone = || Error::Bound { kind, name: name.to_owned() };
    let object = objects.get(resource, namespace, name).await?.ok_or_else(gone)?;
    let metadata = &object["metadata"];
    // A pod that is being deleted needs its token until it has ended; one that should be gone for a minute does not.
    let deletion = metadata["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let over = deletion.is_some_and(|time| time.as_second() + LEEWAY < Timestamp::now().as_second());
    if metadata["uid"] != uid || over { Err(gone()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::authentication::test_keys;

    #[derive(Default)]
    struct Cache(HashMap<String, Arc<Value>>);

    impl Cache {
        fn put(&mut self, resource: &str, namespace: &str, name: &str, object: Value) {
            self.0.insert(format!("{resource}/{namespace}/{name}"), Arc::new(object));
        }
    }

    #[async_trait::async_trait]
    impl Objects for Cache {
        async fn get(
            &self,
            resource: &str,
            namespace: &str,
            name: &str,
        ) -> Result<Option<Arc<Value>>, registry::Error> {
            Ok(self.0.get(&format!("{resource}/{namespace}/{name}")).cloned())
        }
    }

    fn accounts() -> ServiceAccounts {
        let signer = SigningKey::from_pem(test_keys::P256_PKCS8.as_bytes()).unwrap();
        ServiceAccounts::new(vec!["https://issuer".into()], vec!["https://issuer".into(), "k3s".into()], signer, vec![])
    }

    fn cluster() -> Cache {
        let mut cache = Cache::default();
        cache.put("serviceaccounts", "default", "app", json!({"metadata": {"uid": "sa-uid"}}));
        cache.put("pods", "default", "p", json!({"metadata": {"uid": "pod-uid"}}));
        cache
    }

    fn claims<'a>(bound: &'a [BoundObject], audiences: &'a [String], seconds: u64) -> Claims<'a> {
        let lifetime = Duration::from_secs(seconds);
        Claims { namespace: "default", name: "app", uid: "sa-uid", bound, audiences, lifetime, warn_after: None }
    }

    fn pod() -> Vec<BoundObject> {
        vec![BoundObject { kind: "Pod".into(), name: "p".into(), uid: "pod-uid".into() }]
    }

    #[tokio::test]
    async fn a_token_is_the_service_account_with_its_groups_and_pod() {
        let (token, _) = accounts().issue(&claims(&pod(), &[], 3600)).unwrap();
        assert!(accounts().is_ours(&token));
        let accepted = accounts().check(&token, &[], &cluster()).await.unwrap();
        assert_eq!(accepted.user.name, "system:serviceaccount:default:app");
        assert_eq!(accepted.user.groups, ["system:serviceaccounts", "system:serviceaccounts:default"]);
        assert_eq!(accepted.user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(accepted.audiences, ["https://issuer", "k3s"]);
    }

    #[tokio::test]
    async fn a_token_dies_with_its_pod_or_account() {
        let (token, _) = accounts().issue(&claims(&pod(), &[], 3600)).unwrap();
        for (resource, name) in [("pods", "p"), ("serviceaccounts", "app")] {
            let mut cluster = cluster();
            cluster.put(resource, "default", name, json!({"metadata": {"uid": "another"}}));
            assert!(matches!(accounts().check(&token, &[], &cluster).await, Err(Error::Bound { .. })), "{resource}");
        }
    }

    #[tokio::test]
    async fn audiences_must_meet_and_time_must_be_right() {
        let vault = ["vault".to_owned()];
        let (token, _) = accounts().issue(&claims(&[], &vault, 3600)).unwrap();
        assert!(matches!(accounts().check(&token, &[], &cluster()).await, Err(Error::Audience { .. })));
        assert_eq!(accounts().check(&token, &vault, &cluster()).await.unwrap().audiences, vault);
        let signer = SigningKey::from_pem(test_keys::P256_PKCS8.as_bytes()).unwrap();
        let late = json!({"iss": "https://issuer", "aud": ["k3s"], "exp": 1});
        let token = signer.sign(&late).unwrap();
        assert!(matches!(accounts().check(&token, &[], &cluster()).await, Err(Error::Expired)));
    }

    #[tokio::test]
    async fn a_secrets_token_is_good_while_the_secret_holds_it() {
        use base64::Engine;
        let token = accounts().issue_legacy("default", "app", "sa-uid", "s").unwrap();
        assert!(matches!(accounts().check(&token, &[], &cluster()).await, Err(Error::Secret(_))));
        let mut cluster = cluster();
        let held = base64::engine::general_purpose::STANDARD.encode(&token);
        cluster.put("secrets", "default", "s", json!({"data": {"token": held}}));
        assert_eq!(accounts().check(&token, &[], &cluster).await.unwrap().user.uid, "sa-uid");
    }
}
