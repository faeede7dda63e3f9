//! Nothing is created in a namespace that is not there or going away, and some namespaces never go away.

use async_trait::async_trait;
use k3s_api::object;
use k3s_api::status::{Cause, Status};
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

#[async_trait]
impl Plugin for NamespaceLifecycle {
    async fn admit(&self, at: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        let is_namespace = at.resource.group.is_empty() && at.resource.plural == "namespaces";
        if is_namespace {
            return match at.operation {
                Operation::Delete if IMMORTAL.contains(&at.name) => {
                    Err(Status::forbidden("", "namespaces", at.name, "this namespace may not be deleted"))
                }
                _ => Ok(()),
            };
        }
        let is_review = at.resource.group == "authorization.k8s.io";
        if at.namespace.is_empty() || at.operation == Operation::Delete || is_review {
            return Ok(());
        }
        let Some(namespace) = at.registry.get(known::namespaces(), "", at.namespace).await? else {
            return Err(Status::not_found("", "namespaces", at.namespace));
        };
        let terminating = object::text(&*namespace.value()?, &["status", "phase"]) == Some("Terminating");
        if at.operation == Operation::Create && terminating {
            let namespace = at.namespace;
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(at.forbidden(object, why).with_details(|details| {
                details.causes.push(Cause {
                    reason: "NamespaceTerminating".into(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                });
            }));
        }
        Ok(())
    }
}
