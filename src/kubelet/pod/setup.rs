//! What a pod needs before its containers: folders, volumes, a sandbox.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Mutex;

use super::field_path::Addresses;
use super::{runtime_class, sandbox, user_namespace};
use crate::context::Context;
use crate::events::Severity;
use crate::volume::{Mounted, Volumes};

/// The work of setting a pod up.
pub(super) struct Setup {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub volumes: Arc<Mutex<Volumes>>,
    pub addresses: Addresses,
    /// Number of the sandbox to make; `None` if there is one.
    pub sandbox_attempt: Option<u32>,
    /// Sandboxes to take away first.
    pub old_sandboxes: Vec<String>,
}

impl Setup {
    /// Does what is missing. Failures are told as events; the caller tries again.
    pub async fn run(self) -> Result<Arc<BTreeMap<String, Mounted>>, String> {
        let mounted = self.volumes().await?;
        if let Some(attempt) = self.sandbox_attempt {
            self.sandbox(attempt).await?;
        }
        Ok(mounted)
    }

    async fn volumes(&self) -> Result<Arc<BTreeMap<String, Mounted>>, String> {
        let Setup { ctx, pod, .. } = self;
        let metadata = &pod.metadata;
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        for dir in [ctx.config.pod_dir(uid), ctx.config.pod_log_dir(namespace, name, uid)] {
            make_dir(&dir).map_err(|error| {
                let message = format!("error making pod data directories: {}: {error}", dir.display());
                self.event("Failed", message.clone());
                message
            })?;
        }
        let mut volumes = self.volumes.lock().await;
        volumes.set_up(ctx, pod, &self.addresses).await.map_err(|(volume, error)| {
            let message = format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}");
            self.event("FailedMount", message.clone());
            message
        })?;
        Ok(Arc::new(volumes.mounted().clone()))
    }

    async fn sandbox(&self, attempt: u32) -> Result<(), String> {
        let Setup { ctx, pod, .. } = self;
        for old in &self.old_sandboxes {
            // Its containers are kept for their logs and states.
            if let Err(error) = ctx.runtime.stop_pod_sandbox(old).await {
                tracing::warn!(sandbox = old, %error, "cannot stop old sandbox");
            }
        }
        let resolv_conf = match std::fs::read_to_string(&ctx.config.resolv_conf) {
            Ok(text) => text,
            Err(error) => {
                let path = ctx.config.resolv_conf.display();
                tracing::warn!(%path, %error, "cannot read the node's resolv.conf; pods get no servers from it");
                String::new()
            }
        };
        let users = user_namespace::of_pod(ctx, pod).await.inspect_err(|error| {
            self.event("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
        })?;
        let mut config = sandbox::config(&ctx.config, pod, attempt, &resolv_conf, users);
        config.runtime_handler = runtime_class::handler(ctx, pod).await.inspect_err(|error| {
            self.event("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"));
        })?;
        match ctx.runtime.run_pod_sandbox(config).await {
            Ok(id) => {
                tracing::debug!(pod = pod.metadata.name, sandbox = id, "sandbox made");
                Ok(())
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.event("FailedCreatePodSandBox", message.clone());
                Err(message)
            }
        }
    }

    fn event(&self, reason: &'static str, message: String) {
        self.ctx.recorder.pod(&self.pod, None, Severity::Warning, reason, message);
    }
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // What is below is for the kubelet and for containers that mount it, not for other users of the node. The folder
    // can be passed through, for a container may run as any user.
    set_permissions(dir, Permissions::from_mode(0o751))
}
