//! OpenID Connect: tokens of an identity provider, checked with the keys that it publishes
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens>).

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k3s_api::authentication::UserInfo;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::jwt::{self, PublicKey};
use crate::remote::{self, Client, Connect};

/// How long the provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keys are asked for again when they are older.
const KEEP: Duration = Duration::from_secs(3600);
/// A token that no key fits does not make this server ask again sooner: anybody can make up such tokens.
const AT_LEAST: Duration = Duration::from_secs(1);
/// `nbf` may be so many seconds ahead.
const LEEWAY: i64 = 300;

/// Why a token of the provider is refused, or the options can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("oidc: {0}")]
    Unreachable(#[from] remote::Error),
    #[error("oidc: {0}")]
    Token(#[from] jwt::Error),
    #[error("oidc: the issuer {0:?} is no https URL")]
    NoUrl(String),
    #[error("oidc: a client id is needed with an issuer (oidc-client-id)")]
    NoClient,
    #[error("oidc: tokens signed with {0:?} can't be checked: only RS256 and ES256 can")]
    Algorithm(String),
    #[error("oidc: {url} is the document of another issuer: {issuer:?}")]
    OtherIssuer { url: String, issuer: String },
    #[error("oidc: the token has expired")]
    Expired,
    #[error("oidc: the token is not valid yet")]
    NotYet,
    #[error("oidc: the token is for {0:?}")]
    Audience(Value),
    #[error("oidc: the claim {0} is missing, or is not what it should be")]
    Claim(String),
    #[error("oidc: email not verified")]
    Unverified,
}

/// `--oidc-*`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub issuer_url: String,
    pub client_id: String,
    /// Empty: `sub`.
    pub username_claim: String,
    /// `None`: the issuer and `#`, but nothing for `email`. `-`: nothing.
    pub username_prefix: Option<String>,
    /// Empty: users have no groups.
    pub groups_claim: String,
    pub groups_prefix: String,
    /// What a token must say besides, name and value.
    pub required_claims: Vec<(String, String)>,
    /// Empty: RS256.
    pub signing_algorithms: Vec<String>,
    /// Who signs the provider's certificate; empty: the host's authorities.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// The provider.
#[derive(Debug)]
pub(super) struct Oidc {
    options: Options,
    issuer: Client,
    keys: Mutex<Keys>,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Keys {
    keys: Arc<[PublicKey]>,
    asked: Option<Instant>,
}

impl Oidc {
    /// Sets it up. The provider is asked when its first token comes, so it may start after this server.
    ///
    /// # Errors
    /// If the options can't be used.
    pub fn new(mut options: Options) -> Result<Self, Error> {
        if !options.issuer_url.starts_with("https://") {
            return Err(Error::NoUrl(options.issuer_url));
        }
        if options.client_id.is_empty() {
            return Err(Error::NoClient);
        }
        if options.signing_algorithms.is_empty() {
            options.signing_algorithms = vec!["RS256".to_owned()];
        }
        if let Some(other) = options.signing_algorithms.iter().find(|name| !matches!(name.as_str(), "RS256" | "ES256"))
        {
            return Err(Error::Algorithm(other.clone()));
        }
        if options.username_claim.is_empty() {
            options.username_claim = "sub".to_owned();
        }
        let connect = Connect { authorities: options.authorities.clone(), ..Connect::default() };
        let issuer = Client::new(connect, PATIENCE)?;
        Ok(Self { options, issuer, keys: Mutex::default(), asking: tokio::sync::Mutex::default() })
    }

    /// Whether a token claims to be the provider's.
    pub fn is_ours(&self, token: &str) -> bool {
        jwt::unverified_claims(token).is_ok_and(|claims| claims["iss"] == self.options.issuer_url.as_str())
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// If it is not good, or the provider's keys can't be had.
    pub async fn user(&self, token: &str) -> Result<UserInfo, Error> {
        let claims = match jwt::verify(token, &self.keys(KEEP).await?) {
            // It may have new keys.
            Err(jwt::Error::Signature) => jwt::verify(token, &self.keys(AT_LEAST).await?)?,
            claims => claims?,
        };
        self.check(&claims)
    }

    /// The provider's keys, asked for anew if they are older than `age`.
    async fn keys(&self, age: Duration) -> Result<Arc<[PublicKey]>, Error> {
        let fresh = || {
            let known = self.keys.lock();
            known.asked.is_some_and(|asked| asked.elapsed() < age).then(|| Arc::clone(&known.keys))
        };
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        let _turn = self.asking.lock().await;
        if let Some(keys) = fresh() {
            return Ok(keys);
        }
        match self.ask().await {
            Ok(keys) => {
                *self.keys.lock() = Keys { keys: Arc::clone(&keys), asked: Some(Instant::now()) };
                Ok(keys)
            }
            Err(error) => {
                // What was good an hour ago is better than nobody being let in.
                let known = Arc::clone(&self.keys.lock().keys);
                tracing::warn!(%error, keys = known.len(), "cannot ask the OpenID provider for its keys");
                if known.is_empty() { Err(error) } else { Ok(known) }
            }
        }
    }

    async fn ask(&self) -> Result<Arc<[PublicKey]>, Error> {
        let issuer = &self.options.issuer_url;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let about = self.issuer.get(&url).await?;
        if about["issuer"] != issuer.as_str() {
            let issuer = about["issuer"].as_str().unwrap_or_default().to_owned();
            return Err(Error::OtherIssuer { url, issuer });
        }
        let keys = self.issuer.get(about["jwks_uri"].as_str().unwrap_or_default()).await?;
        let keys = keys["keys"].as_array().into_iter().flatten();
        let keys = keys.filter(|key| key["use"].is_null() || key["use"] == "sig").filter_map(PublicKey::from_jwk);
        let wanted = |key: &PublicKey| self.options.signing_algorithms.iter().any(|name| name == key.algorithm());
        Ok(keys.filter(wanted).collect())
    }

    fn check(&self, claims: &Value) -> Result<UserInfo, Error> {
        let options = &self.options;
        if claims["iss"] != options.issuer_url.as_str() {
            return Err(Error::Claim("iss".to_owned()));
        }
        let now = Timestamp::now().as_second();
        let seconds = |claim: &str| claims[claim].as_f64().map(|seconds| seconds as i64);
        if seconds("exp").is_none_or(|expires| expires < now) {
            return Err(Error::Expired);
        }
        if seconds("nbf").is_some_and(|begins| begins > now + LEEWAY) {
            return Err(Error::NotYet);
        }
        let audiences = strings(&claims["aud"]).unwrap_or_default();
        if !audiences.contains(&options.client_id) {
            return Err(Error::Audience(claims["aud"].clone()));
        }
        for (name, value) in &options.required_claims {
            if claims[name] != value.as_str() {
                return Err(Error::Claim(name.clone()));
            }
        }
        let missing = || Error::Claim(options.username_claim.clone());
        let name = claims[&options.username_claim].as_str().filter(|name| !name.is_empty()).ok_or_else(missing)?;
        if options.username_claim == "email" && !matches!(claims["email_verified"], Value::Null | Value::Bool(true)) {
            return Err(Error::Unverified);
        }
        let prefix = match options.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if options.username_claim == "email" => String::new(),
            None => format!("{}#", options.issuer_url),
        };
        let groups = match &claims[&options.groups_claim] {
            Value::Null => Vec::new(),
            groups => strings(groups).ok_or_else(|| Error::Claim(options.groups_claim.clone()))?,
        };
        let groups = groups.into_iter().map(|group| format!("{}{group}", options.groups_prefix)).collect();
        Ok(UserInfo { name: format!("{prefix}{name}"), groups, ..UserInfo::default() })
    }
}

/// A text, or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn oidc(change: impl FnOnce(&mut Options)) -> Oidc {
        let mut options = Options {
            issuer_url: "https://issuer".to_owned(),
            client_id: "k3s".to_owned(),
            groups_claim: "groups".to_owned(),
            // Nobody is asked here.
            authorities: vec![rcgen::generate_simple_self_signed(["issuer".to_owned()]).unwrap().cert.der().clone()],
            ..Options::default()
        };
        change(&mut options);
        Oidc::new(options).unwrap()
    }

    fn claims(change: Value) -> Value {
        let mut claims = json!({"iss": "https://issuer", "sub": "jane", "aud": ["k3s", "x"], "exp": i64::MAX / 2});
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims
    }

    #[test]
    fn claims_become_the_user() {
        let user = oidc(|_| ()).check(&claims(json!({"groups": "devs"}))).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("https://issuer#jane", &["devs".to_owned()][..]));
        let by_email = oidc(|options| {
            options.username_claim = "email".to_owned();
            options.groups_prefix = "oidc:".to_owned();
        });
        let email = json!({"email": "jane@example.com", "groups": ["devs", "ops"]});
        let user = by_email.check(&claims(email.clone())).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("jane@example.com", 2));
        assert_eq!(user.groups[1], "oidc:ops");
        let mut unverified = email;
        unverified["email_verified"] = json!(false);
        assert!(matches!(by_email.check(&claims(unverified)), Err(Error::Unverified)));
        let plain = oidc(|options| options.username_prefix = Some("-".to_owned()));
        assert_eq!(plain.check(&claims(json!({}))).unwrap().name, "jane");
    }

    #[test]
    fn a_token_for_others_or_of_another_time_is_refused() {
        let oidc = oidc(|options| options.required_claims = vec![("tier".to_owned(), "gold".to_owned())]);
        assert!(oidc.check(&claims(json!({"tier": "gold"}))).is_ok());
        for change in [
            json!({}),
            json!({"tier": "tin"}),
            json!({"tier": "gold", "aud": "other"}),
            json!({"tier": "gold", "exp": 5}),
            json!({"tier": "gold", "exp": null}),
            json!({"tier": "gold", "nbf": i64::MAX / 2}),
            json!({"tier": "gold", "iss": "https://other"}),
            json!({"tier": "gold", "sub": ""}),
            json!({"tier": "gold", "groups": 5}),
        ] {
            assert!(oidc.check(&claims(change.clone())).is_err(), "{change}");
        }
    }

    #[test]
    fn options_that_would_let_the_wrong_ones_in_are_refused() {
        let options = |url: &str, client: &str, algorithm: &str| Options {
            issuer_url: url.to_owned(),
            client_id: client.to_owned(),
            signing_algorithms: vec![algorithm.to_owned()],
            ..Options::default()
        };
        assert!(matches!(Oidc::new(options("http://issuer", "k3s", "RS256")), Err(Error::NoUrl(_))));
        assert!(matches!(Oidc::new(options("https://issuer", "", "RS256")), Err(Error::NoClient)));
        assert!(matches!(Oidc::new(options("https://issuer", "k3s", "none")), Err(Error::Algorithm(_))));
    }
}
