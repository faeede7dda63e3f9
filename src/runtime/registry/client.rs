//! Manifests and blobs of one image.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE};
use http::{HeaderName, Response, StatusCode};
use hyper::body::Incoming;
use k3s_cri::RegistryAuth;
use sha2::{Digest, Sha256};

use super::authorization::Authorizations;
use super::transport::{Call, Transport, document};
use super::{Endpoint, RegistryError};
use crate::snapshot::hex;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// A manifest or an index, as the registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub media_type: String,
    /// Computed from the bytes.
    pub digest: String,
    pub bytes: Vec<u8>,
}

/// Talks to registries; shared by all pulls.
pub(crate) struct Client {
    transport: Transport,
    authorizations: Authorizations,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { transport: Transport::new(), authorizations: Authorizations::default() }
    }

    /// New connections are made by what certificate files hold then. What goes on goes on.
    pub(crate) fn forget_connections(&self) {
        self.transport.forget();
    }

    /// The manifest of a tag or digest; of a digest it has that digest.
    pub(crate) async fn manifest(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        reference: &str,
    ) -> Result<Manifest, RegistryError> {
        let url = endpoint.manifest_url(reference);
        let response = self.get(endpoint, auth, &url, &[(ACCEPT, ACCEPTED.to_owned())]).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::NotFound { what: reference.to_owned() });
        }
        let response = expect(&url, response, &[StatusCode::OK]).await?;
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_owned();
        let bytes = document(&url, response.into_body()).await?.to_vec();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if reference.starts_with("sha256:") && reference != digest {
            return Err(RegistryError::Digest { what: format!("manifest {reference}"), found: digest });
        }
        Ok(Manifest { media_type, digest, bytes })
    }

    /// [`Client::manifest`], asked for again when the registry is busy or the connection breaks.
    pub(crate) async fn manifest_patiently(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        reference: &str,
    ) -> Result<Manifest, RegistryError> {
        let mut pause = Duration::from_millis(200);
        for _ in 0..2 {
            match self.manifest(endpoint, auth, reference).await {
                Err(error) if error.is_transient() => tracing::debug!(reference, %error, "asking again"),
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
        self.manifest(endpoint, auth, reference).await
    }

    /// A blob from `offset` on. The answer's status says whether the registry minded the offset.
    pub(super) async fn blob(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        digest: &str,
        offset: u64,
    ) -> Result<Response<Incoming>, RegistryError> {
        let url = endpoint.blob_url(digest);
        let range = (offset > 0).then(|| (RANGE, format!("bytes={offset}-")));
        let response = self.get(endpoint, auth, &url, range.as_slice()).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::NotFound { what: format!("blob {digest}") });
        }
        expect(&url, response, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT]).await
    }

    async fn get(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        url: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, RegistryError> {
        let send = async |header: Option<String>| {
            let authorization = header.map(|header| (AUTHORIZATION, header));
            let call = Call { headers: headers.iter().cloned().chain(authorization).collect(), ..Call::get(url) };
            self.transport.send(endpoint, call).await
        };
        let known = self.authorizations.known(endpoint, auth);
        let response = send(known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorizations.forget(endpoint, auth);
        let header = self.authorizations.answer(&self.transport, endpoint, auth, response.headers()).await?;
        let response = send(Some(header)).await?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.authorizations.forget(endpoint, auth);
            let detail = format!("authorization failed: {url}: {}", response.status());
            return Err(RegistryError::Unauthorized { detail });
        }
        Ok(response)
    }
}

async fn expect(
    url: &str,
    response: Response<Incoming>,
    wanted: &[StatusCode],
) -> Result<Response<Incoming>, RegistryError> {
    let status = response.status();
    if wanted.contains(&status) {
        return Ok(response);
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return Err(RegistryError::Unauthorized { detail: format!("authorization failed: {url}: {status}") });
    }
    // Registries say what is wrong; it is of help, but not needed.
    let body = document(url, response.into_body()).await.unwrap_or_default();
    let detail: String = String::from_utf8_lossy(&body).trim().chars().take(200).collect();
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    Err(RegistryError::Status { url: url.to_owned(), status, detail })
}
