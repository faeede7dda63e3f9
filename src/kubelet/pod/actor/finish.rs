//! The end of a pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::Instant;

use super::{Actor, Done, End, RETRY};
use crate::context::Context;
use crate::pod::observed::Observed;
use crate::pod::spec;
use crate::volume;

impl Actor {
    /// Nothing of the pod runs: takes away what it needed for running; once it is deleted, all that is left.
    pub(super) fn finish(&mut self, observed: &Observed) {
        if self.end_retry.is_some_and(|at| Instant::now() < at) || self.refreshing {
            return;
        }
        let deleted = self.gone || spec::is_deleted(&self.pod);
        match self.end {
            // The last states of the containers must be known before they are gone.
            End::NotYet | End::Finished if deleted => {
                if self.is_published(observed, true) {
                    self.end = End::Removing;
                    self.spawn_end(observed, true);
                }
            }
            End::NotYet => {
                self.end = End::Finishing;
                self.spawn_end(observed, false);
            }
            End::Finishing | End::Finished | End::Removing | End::Removed => {}
        }
    }

    fn spawn_end(&mut self, observed: &Observed, remove: bool) {
        self.end_retry = None;
        let work = Work {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            sandboxes: observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect(),
        };
        let delete = !self.gone;
        self.jobs.spawn(async move {
            let result = match remove {
                true => work.remove(delete).await,
                false => work.finish().await,
            };
            Done::Finished { removed: remove, result }
        });
    }

    pub(super) fn finished(&mut self, removed: bool, result: Result<(), String>) {
        match result {
            Ok(()) if removed => {
                tracing::debug!(pod = self.pod.metadata.name, "pod removed");
                self.end = End::Removed;
            }
            Ok(()) => self.end = End::Finished,
            Err(error) => {
                tracing::warn!(pod = self.pod.metadata.name, error, "cannot clean up after pod; it is tried again");
                self.end = if removed { End::Finished } else { End::NotYet };
                self.end_retry = Some(Instant::now() + RETRY);
            }
        }
    }
}

struct Work {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    sandboxes: Vec<String>,
}

impl Work {
    /// Gives back the pod's addresses. Its volumes, logs and the states of its containers stay until it is deleted.
    async fn finish(&self) -> Result<(), String> {
        for id in &self.sandboxes {
            let stopped = self.ctx.runtime.stop_pod_sandbox(id).await;
            stopped.map_err(|error| format!("cannot stop sandbox {id}: {error}"))?;
        }
        Ok(())
    }

    async fn remove(&self, delete: bool) -> Result<(), String> {
        self.finish().await?;
        for id in &self.sandboxes {
            let removed = self.ctx.runtime.remove_pod_sandbox(id).await;
            removed.map_err(|error| format!("cannot remove sandbox {id}: {error}"))?;
        }
        remove_files(&self.ctx, &self.pod).await?;
        if delete { self.delete().await } else { Ok(()) }
    }

    /// Takes the object from the API: this is what ends a graceful deletion.
    async fn delete(&self) -> Result<(), String> {
        let metadata = &self.pod.metadata;
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: metadata.uid.clone(), ..Default::default() }),
            ..Default::default()
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.ctx.client.clone(), namespace);
        match api.delete(metadata.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => Ok(()),
            // It is gone, or another one has its name.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(format!("cannot delete pod: {error}")),
        }
    }
}

/// Removes the volumes and logs of a pod.
async fn remove_files(ctx: &Context, pod: &Pod) -> Result<(), String> {
    let metadata = &pod.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    volume::tear_down(ctx.config.pod_dir(uid)).await.map_err(|error| error.to_string())?;
    let logs = ctx.config.pod_log_dir(namespace, name, uid);
    match tokio::fs::remove_dir_all(&logs).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove logs {}: {error}", logs.display()))
        }
        _ => Ok(()),
    }
}
