//! Service account tokens bound to a pod.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use super::{Error, Request};

const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;
/// No token is kept longer than a day, whatever its life.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Tokens of one pod, each used until 80% of its life is over.
#[derive(Default)]
pub(super) struct Tokens(HashMap<(String, i64), Token>);

struct Token {
    text: String,
    renew_at: Instant,
}

impl Tokens {
    /// A token as the projection wants it.
    pub async fn get(
        &mut self,
        request: &Request<'_>,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, Error> {
        let audience = source.audience.clone().unwrap_or_default();
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS);
        let key = (audience.clone(), seconds);
        if let Some(token) = self.0.get(&key).filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text.clone());
        }
        let token = self::request(request, audience, seconds).await?;
        let text = token.text.clone();
        self.0.insert(key, token);
        Ok(text)
    }
}

async fn request(request: &Request<'_>, audience: String, seconds: i64) -> Result<Token, Error> {
    let spec = request.pod.spec.as_ref();
    let service_account = spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into());
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience).filter(|audience| !audience.is_empty()).map(|audience| vec![audience]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: request.pod.metadata.name.clone(),
                uid: request.pod.metadata.uid.clone(),
            }),
        }),
        ..Default::default()
    };
    let issued = Api::<ServiceAccount>::namespaced(request.ctx.client.clone(), request.namespace)
        .create_token_request(&service_account, &PostParams::default(), &body)
        .await
        .map_err(|source| Error::Token { service_account: service_account.clone(), source: Box::new(source) })?;
    let granted = issued.spec.and_then(|spec| spec.expiration_seconds).and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    let use_for = Duration::from_secs(granted).mul_f64(0.8).min(MAX_AGE);
    let text = issued.status.and_then(|status| status.token).ok_or(Error::NoToken { service_account })?;
    Ok(Token { text, renew_at: Instant::now() + use_for })
}
