//! Admission: what may change or refuse a write after it has been authorized and decoded, and before it is stored.
//!
//! A chain of plug-ins, one file each, named as in Kubernetes and in Kubernetes' order. Each may change the object
//! ([`Plugin::admit`]); when the object is complete and valid, each may refuse it ([`Plugin::validate`]).

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod evaluation;
mod followed;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
pub(crate) mod policy;
mod priority;
mod reinvocation;
mod request;
pub(crate) mod resource_quota;
mod rules;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod versions;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k3s_api::authentication::UserInfo;
use k3s_api::object;
use k3s_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::authorization::Authorizer;
use crate::options::DeleteOptions;
use crate::registry::{Registry, Row};
use crate::relay::Relay;
use crate::request::Query;
use reinvocation::Reinvocation;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// A connection to a pod, node or service: exec, attach, port-forward, proxy.
    Connect,
}

/// What is asked, by whom.
pub struct Attributes<'a> {
    pub registry: &'a Registry,
    /// Reaches the servers that have to be asked.
    pub relay: &'a Relay,
    pub operation: Operation,
    pub resource: &'a Row,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty for a create whose name is in the object or yet to be generated, and for deletes of collections.
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// The parameters of the request, which its options are made of.
    pub query: Option<&'a Query>,
    /// The options of a delete.
    pub delete_options: Option<&'a DeleteOptions>,
    /// What the client shall be told beside the answer.
    pub warnings: &'a Mutex<Vec<String>>,
    /// What is said for the audit log.
    pub audit_annotations: &'a Mutex<BTreeMap<String, String>>,
    /// Who may do what, for expressions that ask.
    pub authorizer: &'a Authorizer,
    /// What the rounds of mutating admission know of each other.
    pub reinvocation: Mutex<Reinvocation>,
}

impl Attributes<'_> {
    /// Whether it is about that resource itself, not a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural && self.subresource.is_empty()
    }

    /// Tells the client something beside the answer.
    pub fn warn(&self, warning: String) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Tells the audit log something, by the plug-in's own key. What was said first stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.audit_annotations.lock().entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// A refusal, as Kubernetes words it.
    pub fn forbidden(&self, object: &Value, why: impl std::fmt::Display) -> Status {
        let name = [self.name, object::name(object), object::generate_name(object)];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
        Status::forbidden(&self.resource.group, &self.resource.plural, name, why)
    }
}

/// One admission controller.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Whether it is asked about such operations. Most know nothing of connections.
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    /// May change `object`. It is the new object; for a delete it is null. `old` is what is stored, if it exists.
    async fn admit(&self, _: &Attributes<'_>, _object: &mut Value, _old: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }

    /// May refuse `object`, which is as it will be stored; for a delete it is null.
    async fn validate(&self, _: &Attributes<'_>, _object: &Value, _old: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}

/// The plug-ins that are switched on, in their order.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    webhooks: Arc<webhook::Metrics>,
}

impl Chain {
    /// All plug-ins. What quotas are charged is written down in `charges`.
    pub fn new(charges: &Arc<resource_quota::Charges>) -> Self {
        let webhooks = Arc::<webhook::Metrics>::default();
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes_by_condition::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(default_toleration_seconds::DefaultTolerationSeconds),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
            Box::new(runtime_class::RuntimeClass),
            Box::new(certificates::CertificateSubjectRestriction),
            Box::new(default_ingress_class::DefaultIngressClass),
            Box::new(policy::mutating::MutatingAdmissionPolicy::default()),
            Box::new(webhook::mutating::MutatingAdmissionWebhook::new(&webhooks)),
            Box::new(policy::validating::ValidatingAdmissionPolicy::default()),
            Box::new(webhook::validating::ValidatingAdmissionWebhook::new(&webhooks)),
            Box::new(resource_quota::ResourceQuota(Arc::clone(charges))),
        ];
        Self { plugins, webhooks }
    }

    /// What is counted of webhooks.
    pub fn webhook_metrics(&self) -> &webhook::Metrics {
        &self.webhooks
    }

    /// Lets every plug-in change the object; all of them once more, if a webhook or a policy has changed it.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, at: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        loop {
            for plugin in self.plugins.iter().filter(|plugin| plugin.handles(at.operation)) {
                plugin.admit(at, object, old).await?;
            }
            if !at.reinvocation.lock().begin_second() {
                return Ok(());
            }
        }
    }

    /// Asks every plug-in about the complete object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, at: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.handles(at.operation)) {
            plugin.validate(at, object, old).await?;
        }
        Ok(())
    }
}
