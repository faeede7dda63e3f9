//! Starting a container: image, configuration, creation, start, postStart hook.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k3s_cri::{ContainerConfig, Image};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::container_config::{self, Making};
use super::field_path::Addresses;
use super::memory::Waiting;
use super::spec::ContainerSpec;
use super::{hooks, image, user_namespace};
use crate::context::Context;
use crate::events::Severity;
use crate::volume::Mounted;

/// Why a container did not start, and when to try again.
#[derive(Debug)]
pub(super) struct Failure {
    pub waiting: Waiting,
    pub retry: Duration,
}

const RETRY: Duration = Duration::from_secs(5);
/// What was started and failed has a back-off of its own; this is for a runtime that refuses to start it at all.
const RUN_RETRY: Duration = Duration::from_secs(2);
/// A postStart hook has no time limit of its own; this one keeps a forgotten one from holding the pod for ever.
const POST_START_LIMIT: Duration = Duration::from_secs(3600);

/// The work of starting a container.
pub(super) struct Start {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub spec: ContainerSpec,
    pub attempt: u32,
    pub sandbox_id: String,
    pub addresses: Addresses,
    pub volumes: Arc<BTreeMap<String, Mounted>>,
    pub pulls: Arc<Mutex<image::Pulls>>,
    /// Earlier runs that nobody needs any more.
    pub stale: Vec<String>,
    /// Ends when the container before this one has been started or has failed to; images are pulled meanwhile.
    pub after: Option<oneshot::Receiver<()>>,
    /// Dropped when this container has been started or has failed to.
    pub turn: oneshot::Sender<()>,
    pub cancel: CancellationToken,
    /// Id of the container that the specification's target is, if it is there.
    pub target: Option<String>,
}

impl Start {
    /// Starts the container. `Ok` also if the pod was cancelled meanwhile.
    pub async fn run(mut self) -> Result<(), Failure> {
        let started = self.start().await;
        drop(self.turn);
        started
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let cancel = self.cancel.clone();
        let after = self.after.take();
        let prepare = async {
            let image = image::ensure(&self.ctx, &self.pod, &self.spec, &self.pulls).await?;
            let volumes = image::of_volumes(&self.ctx, &self.pod, &self.spec, &self.pulls).await?;
            if let Some(after) = after {
                // It is dropped, never sent.
                let _ = after.await;
            }
            // Containers are told of services, so these must be known.
            self.ctx.services.synced().await;
            Ok((image, volumes))
        };
        let (image, volumes) = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            prepared = prepare => prepared?,
        };
        let id = self.create(&image, &volumes).await?;
        if cancel.is_cancelled() {
            return Ok(());
        }
        self.ctx.runtime.start_container(&id).await.map_err(|error| {
            self.event(Severity::Warning, "Failed", format!("Error: {error}"));
            Failure::new("RunContainerError", error.to_string(), RUN_RETRY)
        })?;
        self.event(Severity::Normal, "Started", "Container started".into());
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            done = self.post_start(&id) => done,
        }
    }

    async fn create(&self, image: &Image, image_volumes: &BTreeMap<String, String>) -> Result<String, Failure> {
        for stale in &self.stale {
            if let Err(error) = self.ctx.runtime.remove_container(stale).await {
                tracing::warn!(container = stale, %error, "cannot remove earlier run of container");
            }
        }
        let misconfigured = |error: String| {
            self.event(Severity::Warning, "Failed", format!("Error: {error}"));
            Failure::new("CreateContainerConfigError", error, RETRY)
        };
        let users = user_namespace::of_pod(&self.ctx, &self.pod).await.map_err(misconfigured)?;
        if let (Some(name), None) = (&self.spec.target, &self.target) {
            return Err(misconfigured(format!("unable to find target container {name}")));
        }
        let making = Making {
            ctx: &self.ctx,
            pod: &self.pod,
            container: &self.spec.container,
            attempt: self.attempt,
            image,
            volumes: &self.volumes,
            image_volumes,
            users,
            addresses: &self.addresses,
        };
        let config = container_config::make(&making).await.map_err(|error| misconfigured(error.to_string()))?;
        let config = ContainerConfig { target: self.target.clone(), ..config };
        let id = self.ctx.runtime.create_container(&self.sandbox_id, config).await.map_err(|error| {
            self.event(Severity::Warning, "Failed", format!("Error: {error}"));
            Failure::new("CreateContainerError", error.to_string(), RETRY)
        })?;
        self.event(Severity::Normal, "Created", "Container created".into());
        Ok(id)
    }

    async fn post_start(&self, id: &str) -> Result<(), Failure> {
        let container = &self.spec.container;
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let host = self.addresses.pod_ips.first().map(String::as_str).unwrap_or("127.0.0.1");
        let Err(message) = hooks::run(&self.ctx, hook, container, id, host, POST_START_LIMIT).await else {
            return Ok(());
        };
        self.event(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into());
        self.event(Severity::Normal, "Killing", "FailedPostStartHook".into());
        let grace = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if let Err(error) = self.ctx.runtime.stop_container(id, grace).await {
            tracing::warn!(container = id, %error, "cannot stop container after its postStart hook failed");
        }
        Err(Failure::new("PostStartHookError", format!("PostStartHookError: {message}"), Duration::ZERO))
    }

    fn event(&self, severity: Severity, reason: &'static str, message: String) {
        self.ctx.recorder.pod(&self.pod, Some(self.spec.field_path()), severity, reason, message);
    }
}
