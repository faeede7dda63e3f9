//! Choosing the image for this machine out of an index.

use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use super::{ARCHITECTURE, ImageError};

/// Is it an index of several platforms, by OCI's or Docker's name?
pub(super) fn is_index(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageIndex)
        || media_type.to_string() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// The index's entry for Linux on this machine's architecture. Plain variants come before special ones: those may need
/// instructions that this processor lacks.
pub(super) fn choose(index: &ImageIndex) -> Result<&Descriptor, ImageError> {
    let fits = |candidate: &&Descriptor| match candidate.platform() {
        Some(platform) => {
            let variant = platform.variant().as_deref().unwrap_or_default();
            platform.os().to_string() == "linux"
                && platform.architecture().to_string() == ARCHITECTURE
                && ["", "v1", "v8"].contains(&variant)
        }
        None => true,
    };
    index.manifests().iter().find(fits).ok_or(ImageError::Platform { os: "linux", architecture: ARCHITECTURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_chosen_and_no_other() {
        let entry = |digit: &str, os: &str, architecture: &str, variant: &str| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                "digest": format!("sha256:{}", digit.repeat(64)),
                "platform": {"os": os, "architecture": architecture, "variant": variant},
            })
        };
        let index = |entries: &[serde_json::Value]| -> ImageIndex {
            serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
        };
        let others = [
            entry("1", "linux", "s390x", ""),
            entry("2", "windows", ARCHITECTURE, ""),
            entry("3", "unknown", "unknown", ""),
            entry("4", "linux", ARCHITECTURE, "v3"),
        ];
        assert!(matches!(choose(&index(&others)), Err(ImageError::Platform { .. })));
        let mut all = others.to_vec();
        all.push(entry("5", "linux", ARCHITECTURE, ""));
        assert!(choose(&index(&all)).unwrap().digest().to_string().contains("5555"));
    }
}
