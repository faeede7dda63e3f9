//! Pod templates and their hash.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use sha2::{Digest, Sha256};

use crate::Error;

pub const HASH_LABEL: &str = "pod-template-hash";
/// Letters of generated names: no vowels, so that no words come out.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether a replica set's template is that of the deployment, but for the hash label.
pub fn is_same(wanted: &PodTemplateSpec, have: Option<&PodTemplateSpec>) -> bool {
    let Some(have) = have else { return false };
    let labels = |template: &PodTemplateSpec| -> BTreeMap<String, String> {
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        labels.into_iter().filter(|(key, _)| key != HASH_LABEL).collect()
    };
    let annotations = |template: &PodTemplateSpec| {
        template.metadata.as_ref().and_then(|meta| meta.annotations.clone()).unwrap_or_default()
    };
    wanted.spec == have.spec && labels(wanted) == labels(have) && annotations(wanted) == annotations(have)
}

/// The hash of a deployment's template, and template and selector of its replica set, which carry it as a label.
pub fn for_replica_set(deployment: &Deployment) -> Result<(String, PodTemplateSpec, LabelSelector), Error> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&spec.template)?);
    if let Some(collisions) = deployment.status.as_ref().and_then(|status| status.collision_count) {
        hasher.update(collisions.to_le_bytes());
    }
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    let hash: String = hasher.finalize().iter().take(10).map(letter).collect();
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    Ok((hash, template, selector))
}
