//! configMap volumes and projections.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, KeyToPath};
use kube::Api;

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
    let found = Api::<ConfigMap>::namespaced(request.ctx.client.clone(), request.namespace)
        .get_opt(name)
        .await
        .map_err(|source| Error::Api { what: format!("configmap {name}"), source: Box::new(source) })?;
    let Some(object) = found else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(Error::NotFound { kind: "configmap", name: name.into() })
        };
    };
    let text = object.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    let data: BTreeMap<String, Vec<u8>> = text.chain(binary).collect();
    payload::project(&data, items, mode, &Origin { kind: "configmap", name, optional })
}
