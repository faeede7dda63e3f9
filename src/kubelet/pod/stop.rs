//! Stopping a container: preStop hook, stop signal, kill.

use std::sync::Arc;
use std::time::Duration;

use k3s_cri::Error;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::hooks;
use super::plan::Why;
use super::spec::ContainerSpec;
use crate::context::Context;
use crate::events::Severity;

/// However long the preStop hook took, a container has this long after the stop signal.
const MIN_GRACE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);

/// The work of stopping a container.
pub(super) struct Stop {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub spec: ContainerSpec,
    pub container_id: String,
    pub why: Why,
    pub grace: Duration,
    pub pod_host: String,
}

impl Stop {
    /// Returns when the container has ended.
    pub async fn run(self) {
        self.announce();
        let began = Instant::now();
        self.pre_stop().await;
        let left = match self.grace.is_zero() {
            true => Duration::ZERO,
            false => self.grace.saturating_sub(began.elapsed()).max(MIN_GRACE.min(self.grace)),
        };
        loop {
            match self.ctx.runtime.stop_container(&self.container_id, left).await {
                Ok(()) | Err(Error::NotFound { .. }) => return,
                Err(error) => {
                    tracing::warn!(container = self.container_id, %error, "cannot stop container; it is tried again");
                    let message = format!("error killing pod: failed to \"KillContainer\": {error}");
                    self.event(Severity::Warning, "FailedKillPod", message);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn announce(&self) {
        let name = self.spec.name();
        let message = match &self.why {
            Why::Changed => format!("Container {name} definition changed, will be restarted"),
            Why::Unhealthy(probe) => format!("Container {name} failed {probe} probe, will be restarted"),
            Why::Deleted | Why::Done | Why::SandboxChanged | Why::PodFailed => format!("Stopping container {name}"),
        };
        self.event(Severity::Normal, "Killing", message);
    }

    async fn pre_stop(&self) {
        let container = &self.spec.container;
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(hook) = hook.filter(|_| !self.grace.is_zero()) else { return };
        let run = hooks::run(&self.ctx, hook, container, &self.container_id, &self.pod_host, self.grace);
        let failed = match tokio::time::timeout(self.grace, run).await {
            Ok(Ok(())) => return,
            Ok(Err(message)) => message,
            Err(_) => "it did not end in the grace period".to_owned(),
        };
        tracing::debug!(container = self.container_id, failed, "preStop hook failed");
        self.event(Severity::Warning, "FailedPreStopHook", "PreStopHook failed".into());
    }

    fn event(&self, severity: Severity, reason: &'static str, message: String) {
        self.ctx.recorder.pod(&self.pod, Some(self.spec.field_path()), severity, reason, message);
    }
}
