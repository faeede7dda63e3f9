//! Events about what a controller did.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Records events under a controller's name.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// A recorder for `controller`, such as `replicaset-controller`.
    pub fn new(client: Client, controller: &str) -> Self {
        Self(Recorder::new(client, Reporter { controller: controller.to_owned(), instance: None }))
    }

    /// Records a normal event about `object`.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, action: &str, note: String) {
        self.publish(EventType::Normal, object.object_ref(&()), reason, action, note).await;
    }

    /// Records a warning about `object`.
    pub async fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, action: &str, note: String) {
        self.publish(EventType::Warning, object.object_ref(&()), reason, action, note).await;
    }

    async fn publish(&self, type_: EventType, about: ObjectReference, reason: &str, action: &str, note: String) {
        let event =
            Event { type_, reason: reason.to_owned(), action: action.to_owned(), note: Some(note), secondary: None };
        // Events are for people; the work they tell of is done all the same.
        if let Err(error) = self.0.publish(&event, &about).await {
            tracing::debug!(%error, reason, "cannot record an event");
        }
    }
}
