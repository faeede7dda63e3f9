//! Writing the pod's status.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::{Actor, Done, RETRY};
use crate::pod::observed::Observed;
use crate::pod::patch;
use crate::pod::status::{self, Basics};

/// A status that the API refused so often does not keep a deleted pod from going.
const GIVE_UP: u32 = 5;

impl Actor {
    /// Writes the status if it has changed. One patch is on its way at a time: what changes meanwhile is in the next.
    pub(super) fn publish(&mut self, observed: &Observed, terminated: bool) {
        if self.publishing || self.gone || self.publish_retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.publish_retry = None;
        let Some(patch) = self.pending(observed, terminated) else { return };
        self.publishing = true;
        let metadata = &self.pod.metadata;
        let name = metadata.name.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.ctx.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        // The uid keeps the status from being written to another pod of the same name.
        let patch = json!({ "metadata": { "uid": self.uid }, "status": patch });
        self.jobs.spawn(async move {
            let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            Done::Published(patched.map(Box::new))
        });
    }

    /// What of the status the API does not know yet.
    fn pending(&self, observed: &Observed, terminated: bool) -> Option<serde_json::Value> {
        let basics = Basics {
            config: &self.ctx.config,
            pod: &self.pod,
            specs: &self.specs,
            observed,
            memory: &self.memory,
            terminated,
            now: Timestamp::now(),
        };
        let fresh = status::status(&basics);
        let known = self.pod.status.clone().unwrap_or_default();
        patch::diff(&known, &fresh).unwrap_or_else(|error| {
            tracing::error!(pod = self.pod.metadata.name, %error, "cannot encode pod status");
            None
        })
    }

    /// Whether the API knows all there is to say.
    pub(super) fn is_published(&self, observed: &Observed, terminated: bool) -> bool {
        let known = || self.refusals >= GIVE_UP || self.pending(observed, terminated).is_none();
        self.gone || (!self.publishing && known())
    }

    pub(super) fn published(&mut self, result: Result<Box<Pod>, kube::Error>) {
        self.publishing = false;
        match result {
            Ok(pod) => {
                self.refusals = 0;
                self.set_pod(Arc::new(*pod));
            }
            // The watch will say so too.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                self.publish_retry = Some(Instant::now() + RETRY);
            }
            Err(error) => {
                self.refusals += u32::from(matches!(error, kube::Error::Api(_)));
                tracing::warn!(pod = self.pod.metadata.name, %error, "pod status not written; it is tried again");
                self.publish_retry = Some(Instant::now() + RETRY);
            }
        }
    }
}
