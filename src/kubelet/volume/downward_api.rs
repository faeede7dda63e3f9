//! downwardAPI volumes and projections.

use k8s_openapi::api::core::v1::DownwardAPIVolumeFile;

use super::payload::{self, File, Payload};
use super::{Error, Request};
use crate::pod::field_path;

/// The fields of the pod as files.
pub(super) fn files(
    request: &Request<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: u32,
) -> Result<Payload, Error> {
    let mut payload = Payload::new();
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => field_path::field(request.pod, request.addresses, selector)?,
            (None, Some(selector)) => field_path::resource(request.pod, None, selector, &request.ctx.facts)?,
            (None, None) => String::new(),
        };
        let mode = item.mode.map_or(default_mode, |mode| payload::mode(Some(mode)));
        payload.insert(payload::relative(&item.path)?, File { data: text.into_bytes(), mode, uid: None });
    }
    Ok(payload)
}
