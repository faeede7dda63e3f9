//! configMap volumes and projections.

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, KeyToPath};

use super::payload::{self, Origin, Payload};
use super::{Error, Request};

/// The files of a configMap volume.
pub(super) async fn volume(request: &Request<'_>, source: &ConfigMapVolumeSource) -> Result<Payload, Error> {
    let mode = payload::mode(source.default_mode);
    files(request, &source.name, source.items.as_deref(), mode, source.optional == Some(true)).await
}

/// The keys of a ConfigMap as files.
pub(super) async fn files(
    request: &Request<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Payload, Error> {
    let origin = Origin { kind: "configmap", name, optional };
    payload::of_object(request, &origin, items, mode, |object: ConfigMap| {
        let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        text.chain(binary).collect()
    })
    .await
}
