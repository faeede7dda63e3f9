//! What aggregated API servers serve: their own documents, asked for by this server in its own name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use k3s_api::object::text;
use serde_json::Value;

use super::Foreign;
use crate::ApiServer;
use crate::authorization::MASTERS;
use crate::openapi::merge;
use crate::relay::outside::Server;

/// How long a server may take to say what it serves.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the server of an `APIService` for the documents of its version; what it said `before` is not asked again, if the
/// server tells by a hash that it is the same.
///
/// # Errors
/// In words, if it can't be reached or does not serve it.
pub(super) async fn discover(server: &ApiServer, api_service: &Value, before: &[Foreign]) -> Result<Foreign, String> {
    let field = |name| text(api_service, &["spec", name]).unwrap_or_default().to_owned();
    let (group, version) = (field("group"), field("version"));
    let path = format!("/apis/{group}/{version}");
    let failed = |url: &str, why: String| format!("failing or missing response from {url}: {why}");
    let (relay, registry) = (server.relay(), server.registry());
    let backend = Server::find(relay, registry, &api_service["spec"]).await.map_err(|error| failed(&path, error))?;
    let url = backend.url(&path);
    let get = |path: String| {
        let backend = &backend;
        async move { backend.exchange(relay, Method::GET, &path, headers(), Bytes::new(), PATIENCE).await }
    };
    let resources = match get(path.clone()).await {
        Ok((code, body)) if code.is_success() => resources(&body),
        Ok((code, _)) => return Err(failed(&url, format!("bad status from {url}: {}", code.as_u16()))),
        Err(error) => return Err(failed(&url, error)),
    };
    // A server without OpenAPI of version 3 is none the worse for it.
    let openapi = match get("/openapi/v3".to_owned()).await {
        Ok((StatusCode::OK, body)) => openapi(&body, &path),
        _ => None,
    };
    let known = before.iter().find(|known| known.group == group && known.version == version);
    let same = known.filter(|known| openapi.is_some() && known.openapi == openapi);
    let swagger = match same.and_then(|known| known.swagger.clone()) {
        Some(swagger) => Some(swagger),
        None => match get("/openapi/v2".to_owned()).await {
            Ok((StatusCode::OK, body)) => swagger(&body, &group, &version),
            _ => None,
        },
    };
    Ok(Foreign { group, version, resources, openapi, swagger, is_current: true })
}

/// This server asks as itself, which every server of the cluster lets do anything.
fn headers() -> HeaderMap {
    let header =
        |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/json")),
        header("x-remote-user", "system:kube-aggregator"),
        header("x-remote-group", MASTERS),
    ])
}

fn resources(body: &[u8]) -> Vec<Value> {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    list["resources"].as_array().cloned().unwrap_or_default()
}

/// What a document of version 2 says of this version.
fn swagger(body: &[u8], group: &str, version: &str) -> Option<Arc<[u8]>> {
    let document = serde_json::from_slice(body).ok()?;
    Some(merge::part(document, group, version).to_string().into_bytes().into())
}

fn openapi(body: &[u8], path: &str) -> Option<String> {
    let index: Value = serde_json::from_slice(body).ok()?;
    let url = index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str()?;
    // Anything else would lead clients elsewhere.
    url.starts_with(&format!("/openapi/v3{path}")).then(|| url.to_owned())
}
