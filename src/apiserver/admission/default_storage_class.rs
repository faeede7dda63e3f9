//! A claim that names no storage class gets the default one.

use async_trait::async_trait;
use k3s_api::object::{self, annotation, section_mut, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct DefaultStorageClass;

const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

#[async_trait]
impl Plugin for DefaultStorageClass {
    async fn admit(&self, at: &Attributes<'_>, claim: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        let named = text(claim, &["spec", "storageClassName"]).is_some()
            || annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
        if !at.is("", "persistentvolumeclaims") || at.operation != Operation::Create || named {
            return Ok(());
        }
        let mut defaults = Vec::new();
        for entry in at.registry.list(known::storage_classes(), "").await?.entries {
            let class = entry.value()?;
            if IS_DEFAULT.iter().any(|key| annotation(&class, key) == Some("true")) {
                let created = text(&class, &["metadata", "creationTimestamp"]).unwrap_or_default().to_owned();
                defaults.push((created, object::name(&class).to_owned()));
            }
        }
        // The youngest; among those of one second the first by name.
        defaults.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        if let Some((_, name)) = defaults.into_iter().next() {
            section_mut(claim, "spec").insert("storageClassName".to_owned(), name.into());
        }
        Ok(())
    }
}
