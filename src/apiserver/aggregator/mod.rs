//! Aggregated APIs: groups that another server serves, behind a service that an `APIService` names. Requests for them are
//! authorized here and passed on; what the servers serve stands in this server's discovery.

pub(crate) mod availability;
mod discovery;

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use k3s_api::authentication::UserInfo;
use k3s_api::object::{at, text};
use parking_lot::RwLock;
use serde_json::Value;

use crate::dispatch::RequestBody;
use crate::registry::{self, known};
use crate::relay::aggregated;
use crate::request::RequestInfo;
use crate::{ApiServer, Body, response};

/// A version of a group that another server serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Foreign {
    pub group: String,
    pub version: String,
    /// Its `APIResourceList`'s resources, when it was last asked.
    pub resources: Vec<Value>,
    /// Its OpenAPI document's URL, with its hash.
    pub openapi: Option<String>,
    /// Its part of OpenAPI of version 2: see [`crate::openapi::merge`].
    pub swagger: Option<Arc<[u8]>>,
    /// It answered when it was asked last.
    pub is_current: bool,
}

/// All of them, as they were found last.
#[derive(Debug, Default)]
pub(crate) struct Aggregated(RwLock<Arc<[Foreign]>>);

impl Aggregated {
    /// All of them.
    pub fn all(&self) -> Arc<[Foreign]> {
        Arc::clone(&self.0.read())
    }

    fn set(&self, found: Vec<Foreign>) {
        *self.0.write() = found.into();
    }
}

/// The group and version that a path belongs to: `/apis/GROUP/VERSION/…` and its OpenAPI document.
fn place(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
    let mut parts = path.strip_prefix("/apis/")?.split('/');
    let (group, version) = (parts.next()?, parts.next()?);
    (!group.is_empty() && !version.is_empty()).then_some((group, version))
}

/// The `APIService` whose server answers this path, if that is not this server.
///
/// # Errors
/// If it cannot be read.
pub(crate) async fn find(server: &ApiServer, path: &str) -> Result<Option<Arc<Value>>, registry::Error> {
    let Some((group, version)) = place(path) else { return Ok(None) };
    let cache = server.registry().cache(known::api_services()).await?;
    let Some(entry) = cache.get(&format!("{version}.{group}")) else { return Ok(None) };
    if server.registry().serves(group, version) {
        return Ok(None);
    }
    let found = entry.value()?;
    Ok(at(&found, &["spec", "service"]).is_some_and(Value::is_object).then_some(found))
}

/// Has the server of an `APIService` answer.
pub(crate) async fn answer(
    server: &ApiServer,
    api_service: &Value,
    request: Request<RequestBody>,
    user: &UserInfo,
    info: &RequestInfo,
) -> Response<Body> {
    let mut conditions = at(api_service, &["status", "conditions"]).and_then(Value::as_array).into_iter().flatten();
    if !conditions.any(|condition| condition["type"] == "Available" && condition["status"] == "True") {
        return response::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
    }
    match aggregated::forward(server, &api_service["spec"], request, user).await {
        Ok(response) => response,
        Err(error) => {
            let name = text(api_service, &["metadata", "name"]).unwrap_or_default();
            tracing::warn!(error, api_service = name, path = info.path, "an aggregated API server can't be reached");
            response::text(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {error}\n"))
        }
    }
}
