//! The issuer of service account tokens as an OpenID provider, so that others can verify them:
//! `/.well-known/openid-configuration` and `/openid/v1/jwks`
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::authentication::jwt::PublicKey;
use crate::{ApiServer, Body, response};

/// Answers the two paths; `None` for others, or when tokens are not issued.
pub(crate) fn handle(server: &ApiServer, path: &str) -> Option<Response<Body>> {
    let accounts = server.authenticator().service_accounts()?;
    let (document, content_type) = match path {
        "/.well-known/openid-configuration" => {
            let config = server.config();
            let address = std::net::SocketAddr::new(config.advertise_address, config.advertise_port);
            let mut algorithms: Vec<&str> = accounts.keys().iter().map(PublicKey::algorithm).collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            let document = json!({
                "issuer": accounts.issuer(),
                "jwks_uri": format!("https://{address}/openid/v1/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms,
            });
            (document, "application/json")
        }
        "/openid/v1/jwks" => {
            let keys: Vec<Value> = accounts.keys().iter().map(PublicKey::jwk).collect();
            (json!({"keys": keys}), "application/jwk-set+json")
        }
        _ => return None,
    };
    let mut response = response::json(StatusCode::OK, document.to_string().into_bytes());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Some(response)
}
