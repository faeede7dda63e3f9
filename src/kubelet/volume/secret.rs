//! secret volumes and projections.

use k8s_openapi::api::core::v1::{KeyToPath, Secret, SecretVolumeSource};

use super::payload::{self, Origin, Payload};
use super::{Error, Request};

/// The files of a secret volume.
pub(super) async fn volume(request: &Request<'_>, source: &SecretVolumeSource) -> Result<Payload, Error> {
    let mode = payload::mode(source.default_mode);
    let name = source.secret_name.as_deref().unwrap_or_default();
    files(request, name, source.items.as_deref(), mode, source.optional == Some(true)).await
}

/// The keys of a Secret as files.
pub(super) async fn files(
    request: &Request<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Payload, Error> {
    let origin = Origin { kind: "secret", name, optional };
    payload::of_object(request, &origin, items, mode, |object: Secret| {
        object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
    })
    .await
}
