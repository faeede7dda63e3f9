//! A blob's bytes in order, whatever happens to the connections that bring them.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use http_body_util::BodyExt;
use k3s_cri::RegistryAuth;
use tokio::sync::mpsc;

use super::{Client, Endpoint, RegistryError};

/// A connection that brings nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// So often in a row a blob is asked for without a byte more of it.
const ATTEMPTS: u32 = 5;

impl Client {
    /// Sends the blob's `size` bytes to `to`. Where a connection breaks, the next one goes on behind the last byte, and
    /// where an endpoint gives up, the next endpoint. Ends early, without an error, when nobody receives any more.
    pub(crate) async fn download(
        &self,
        endpoints: &[Endpoint],
        auth: Option<&RegistryAuth>,
        digest: &str,
        size: u64,
        to: &mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let mut offset = 0;
        let mut first = None;
        for endpoint in endpoints {
            match self.download_at(endpoint, auth, digest, size, &mut offset, to).await {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| RegistryError::NotFound { what: format!("blob {digest}") }))
    }

    async fn download_at(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        digest: &str,
        size: u64,
        offset: &mut u64,
        to: &mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let auth = endpoint.credentials(auth);
        let mut failures = 0;
        while *offset < size {
            let before = *offset;
            let result = self.part(endpoint, auth, digest, size, offset, to).await;
            if to.is_closed() {
                return Ok(());
            }
            failures = if *offset > before { 0 } else { failures + 1 };
            match result {
                Ok(()) if *offset >= size => return Ok(()),
                // Cut off without an error.
                Ok(()) if failures < ATTEMPTS => {}
                Err(error) if error.is_transient() && failures < ATTEMPTS => {
                    tracing::debug!(digest, offset, %error, "download interrupted; going on");
                }
                Ok(()) => {
                    let detail = format!("{digest} ends after {offset} of {size} bytes");
                    return Err(RegistryError::Protocol { url: endpoint.blob_url(digest), detail });
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(failures.min(6))).await;
        }
        Ok(())
    }

    /// One answer's worth of the blob.
    async fn part(
        &self,
        endpoint: &Endpoint,
        auth: Option<&RegistryAuth>,
        digest: &str,
        size: u64,
        offset: &mut u64,
        to: &mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let url = endpoint.blob_url(digest);
        let response = self.blob(endpoint, auth, digest, *offset).await?;
        // A registry that does not know ranges sends all from the start.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { *offset };
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
            if !range.starts_with(&format!("bytes {offset}-")) {
                let detail = format!("asked for bytes {offset}-, got {range:?}");
                return Err(RegistryError::Protocol { url, detail });
            }
        }
        let mut body = response.into_body();
        loop {
            let unreachable = |detail: String| RegistryError::Unreachable { url: url.clone(), detail };
            let frame = tokio::time::timeout(SILENCE, body.frame())
                .await
                .map_err(|_| unreachable("the download stalls".to_owned()))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| unreachable(super::transport::causes(&error)))?;
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = skip.min(data.len() as u64);
            skip -= skipped;
            data = data.split_off(skipped as usize);
            if data.is_empty() {
                continue;
            }
            *offset += data.len() as u64;
            if *offset > size {
                let detail = format!("{digest} is longer than its {size} bytes");
                return Err(RegistryError::Protocol { url, detail });
            }
            if to.send(data).await.is_err() {
                return Ok(());
            }
        }
    }
}
