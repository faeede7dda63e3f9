//! Who asks: basic authentication, and bearer tokens from the service that a registry names.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode};
use k3s_cri::RegistryAuth;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::transport::{Call, Transport, causes, document};
use super::{Endpoint, RegistryError};

/// Tokens without a life time of their own live so long, by the specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// A repository at a host, as somebody: whom a header is for.
type Scope = (String, String, Option<RegistryAuth>);

/// The headers that registries have accepted.
#[derive(Default)]
pub(super) struct Authorizations(Mutex<HashMap<Scope, (String, Instant)>>);

/// What a token service answers.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Authorizations {
    fn scope(endpoint: &Endpoint, auth: Option<&RegistryAuth>) -> Scope {
        (endpoint.host.clone(), endpoint.repository.clone(), auth.cloned())
    }

    /// The header to send at once, if one is known.
    pub(super) fn known(&self, endpoint: &Endpoint, auth: Option<&RegistryAuth>) -> Option<String> {
        if let Some(token) = auth.map(|auth| &auth.registry_token).filter(|token| !token.is_empty()) {
            return Some(format!("Bearer {token}"));
        }
        let mut known = self.0.lock();
        known.retain(|_, (_, until)| *until > Instant::now());
        known.get(&Self::scope(endpoint, auth)).map(|(header, _)| header.clone())
    }

    /// Answers a registry's 401 with the header that it wants.
    pub(super) async fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        asked: &HeaderMap,
    ) -> Result<String, RegistryError> {
        let mut offered = Vec::new();
        for value in asked.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
            for challenge in http_auth::parse_challenges(value).unwrap_or_default() {
                let params: HashMap<String, String> =
                    challenge.params.iter().map(|(key, value)| (key.to_lowercase(), value.to_unescaped())).collect();
                offered.push((challenge.scheme.to_lowercase(), params));
            }
        }
        let wanted = |scheme: &str| offered.iter().find(|(name, _)| name == scheme);
        let (header, life) = if let Some((_, params)) = wanted("bearer") {
            bearer(transport, endpoint, auth, params).await?
        } else if wanted("basic").is_some() {
            let detail = "authorization failed: no basic auth credentials".to_owned();
            (auth.and_then(basic).ok_or(RegistryError::Unauthorized { detail })?, Duration::from_secs(600))
        } else {
            let detail = "authorization failed: the registry does not say how to authenticate".to_owned();
            return Err(RegistryError::Unauthorized { detail });
        };
        self.0.lock().insert(Self::scope(endpoint, auth), (header.clone(), Instant::now() + life));
        Ok(header)
    }

    /// A header that was refused is not used again.
    pub(super) fn forget(&self, endpoint: &Endpoint, auth: Option<&RegistryAuth>) {
        self.0.lock().remove(&Self::scope(endpoint, auth));
    }
}

/// Username and password, however they were given.
fn password(auth: &RegistryAuth) -> Option<(String, String)> {
    if !auth.username.is_empty() {
        return Some((auth.username.clone(), auth.password.clone()));
    }
    let decoded = STANDARD.decode(auth.auth.trim()).ok().filter(|decoded| !decoded.is_empty())?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn basic(auth: &RegistryAuth) -> Option<String> {
    let (username, password) = password(auth)?;
    Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

async fn bearer(
    transport: &Transport,
    endpoint: &Endpoint,
    auth: Option<&RegistryAuth>,
    params: &HashMap<String, String>,
) -> Result<(String, Duration), RegistryError> {
    let protocol = |url: &str, detail: String| RegistryError::Protocol { url: url.to_owned(), detail };
    let realm = params.get("realm").ok_or_else(|| protocol(&endpoint.base, "challenge without realm".to_owned()))?;
    // A registry that speaks TLS must not make us send a password in the clear.
    let plain_too = endpoint.base.starts_with("http://") && realm.starts_with("http://");
    if !plain_too && !realm.starts_with("https://") {
        let detail = format!("authorization failed: token service {realm:?} is not reached by TLS");
        return Err(RegistryError::Unauthorized { detail });
    }
    let scope = format!("repository:{}:pull", endpoint.repository);
    let scope = params.get("scope").unwrap_or(&scope);
    let service = params.get("service").map(String::as_str).unwrap_or_default();
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("service={}&scope={}", encode(service), encode(scope));
    let refresh = auth.map(|auth| auth.identity_token.as_str()).filter(|token| !token.is_empty());
    let url;
    let call = if let Some(token) = refresh {
        query += &format!("&grant_type=refresh_token&client_id=k3s&refresh_token={}", encode(token));
        let mut call = Call::get(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        (call.method, call.body) = (Method::POST, Bytes::from(query));
        call
    } else {
        url = format!("{realm}{}{query}", if realm.contains('?') { '&' } else { '?' });
        match auth.and_then(basic) {
            Some(header) => Call::get(&url).header(AUTHORIZATION, header),
            None => Call::get(&url),
        }
    };
    let response = transport.send(endpoint, call).await?;
    let status = response.status();
    let body = document(realm, response.into_body()).await?;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
        let detail = format!("authorization failed: failed to fetch token from {realm}: {status}");
        return Err(RegistryError::Unauthorized { detail });
    }
    if !status.is_success() {
        return Err(RegistryError::Status { url: realm.clone(), status, detail: String::new() });
    }
    let token: Token = serde_json::from_slice(&body).map_err(|error| protocol(realm, causes(&error)))?;
    let life = token.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    let token = if token.token.is_empty() { token.access_token } else { token.token };
    if token.is_empty() {
        return Err(protocol(realm, "the answer has no token".to_owned()));
    }
    // Not to the last second: clocks differ, and a request takes time.
    Ok((format!("Bearer {token}"), life.mul_f32(0.8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_taken_from_either_form() {
        let plain = RegistryAuth { username: "u".into(), password: "p:q".into(), ..Default::default() };
        let encoded = RegistryAuth { auth: STANDARD.encode("u:p:q"), ..Default::default() };
        assert_eq!(basic(&plain), basic(&encoded));
        assert_eq!(basic(&plain).unwrap(), format!("Basic {}", STANDARD.encode("u:p:q")));
        assert_eq!(basic(&RegistryAuth::default()), None);
        assert_eq!(basic(&RegistryAuth { auth: "%%".into(), ..Default::default() }), None);
    }
}
