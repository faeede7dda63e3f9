//! Aggregated APIs: groups that another server serves, behind a service that an `APIService` names.

pub(crate) mod availability;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use k3s_api::object::text;
use serde_json::Value;

use crate::ApiServer;
use crate::relay::outside::Server;

/// How long a server may take to say what it serves.
const DISCOVERY: Duration = Duration::from_secs(5);

/// Asks the server of an `APIService` for the documents of its version.
///
/// # Errors
/// In words, if it can't be reached or does not serve it.
async fn discover(server: &ApiServer, api_service: &Value) -> Result<(), String> {
    let field = |name| text(api_service, &["spec", name]).unwrap_or_default();
    let path = format!("/apis/{}/{}", field("group"), field("version"));
    let failed = |url: &str, why: String| format!("failing or missing response from {url}: {why}");
    let (relay, registry) = (server.relay(), server.registry());
    let backend = Server::find(relay, registry, &api_service["spec"]).await.map_err(|error| failed(&path, error))?;
    let url = backend.url(&path);
    let answer = backend.exchange(relay, Method::GET, &path, HeaderMap::new(), Bytes::new(), DISCOVERY).await;
    match answer {
        Ok((code, _)) if code.is_success() => Ok(()),
        Ok((code, _)) => Err(failed(&url, format!("bad status from {url}: {}", code.as_u16()))),
        Err(error) => Err(failed(&url, error)),
    }
}
