//! An ingress that names no class gets the default one.

use async_trait::async_trait;
use k3s_api::object::{self, annotation, section_mut, text};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct DefaultIngressClass;

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

#[async_trait]
impl Plugin for DefaultIngressClass {
    async fn admit(&self, at: &Attributes<'_>, ingress: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        let named = text(ingress, &["spec", "ingressClassName"]).is_some()
            || annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if !at.is("networking.k8s.io", "ingresses") || at.operation != Operation::Create || named {
            return Ok(());
        }
        let mut defaults = Vec::new();
        for entry in at.registry.list(known::ingress_classes(), "").await?.entries {
            let class = entry.value()?;
            if annotation(&class, IS_DEFAULT) == Some("true") {
                let created = text(&class, &["metadata", "creationTimestamp"]).unwrap_or_default().to_owned();
                defaults.push((created, object::name(&class).to_owned()));
            }
        }
        defaults.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        if let Some((_, name)) = defaults.into_iter().next() {
            section_mut(ingress, "spec").insert("ingressClassName".to_owned(), name.into());
        }
        Ok(())
    }
}
