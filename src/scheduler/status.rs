//! What users see of scheduling: events and the PodScheduled condition.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::NAME;

/// Writes events and conditions.
#[derive(Clone)]
pub struct Reports {
    client: Client,
    recorder: Recorder,
}

impl Reports {
    pub fn new(client: Client) -> Self {
        let reporter = Reporter { controller: NAME.to_owned(), instance: None };
        Self { recorder: Recorder::new(client.clone(), reporter), client }
    }

    pub async fn scheduled(&self, pod: &Pod, node: &str) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let note = format!("Successfully assigned {namespace}/{name} to {node}");
        self.publish(pod, EventType::Normal, "Scheduled", "Binding", note).await;
    }

    /// Sets the condition, unless it says so already, and records an event.
    pub async fn unschedulable(&self, pod: &Pod, message: &str) {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let said = |it: &&k8s_openapi::api::core::v1::PodCondition| {
            it.type_ == "PodScheduled" && it.status == "False" && it.message.as_deref() == Some(message)
        };
        if conditions.iter().find(said).is_none() {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": message, "lastProbeTime": null, "lastTransitionTime": Timestamp::now()});
            let patch =
                Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            if let Err(error) = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
                tracing::debug!(pod = pod.name_any(), %error, "cannot set the condition of a pod");
            }
        }
        self.publish(pod, EventType::Warning, "FailedScheduling", "Scheduling", message.to_owned()).await;
    }

    async fn publish(&self, pod: &Pod, type_: EventType, reason: &str, action: &str, note: String) {
        let event =
            Event { type_, reason: reason.to_owned(), action: action.to_owned(), note: Some(note), secondary: None };
        // Events are for people; the work they tell of is done all the same.
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            tracing::debug!(pod = pod.name_any(), %error, "cannot record an event");
        }
    }
}
