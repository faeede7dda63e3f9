//! get: one object, from the watch cache.

use http::{Response, StatusCode};
use k3s_api::status::Status;

use crate::Body;
use crate::call::Call;
use crate::options::parse_resource_version;
use crate::registry::key;

/// Answers with the object, not older than anything acknowledged before, or than the resource version asked for.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let asked = parse_resource_version(call.query.get("resourceVersion").unwrap_or_default())?;
    let cache = call.registry().cache(&call.row).await?;
    match asked {
        None => call.registry().catch_up().await?,
        Some(version) => call.registry().wait_for(i64::try_from(version).unwrap_or(i64::MAX)).await?,
    };
    let entry = cache.get(&key(call.namespace(), &call.info.name)).ok_or_else(|| call.not_found())?;
    call.entry(StatusCode::OK, &entry).await
}
