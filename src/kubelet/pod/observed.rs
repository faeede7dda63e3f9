//! What the runtime has of a pod.

use std::collections::BTreeMap;

use k3s_cri::{ContainerState, ContainerStatus, Error, PodSandboxStatus, RuntimeService, SandboxState};

use crate::labels;

/// Sandboxes and containers of one pod, each list with the newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub sandboxes: Vec<PodSandboxStatus>,
    containers: BTreeMap<String, Vec<ContainerStatus>>,
}

impl Observed {
    /// Asks the runtime.
    pub async fn read(runtime: &dyn RuntimeService, uid: &str) -> Result<Self, Error> {
        let sandboxes = runtime.list_pod_sandboxes().await?.into_iter().filter(|sandbox| sandbox.uid == uid);
        let containers = runtime.list_containers().await?.into_iter();
        Ok(Self::new(
            sandboxes.collect(),
            containers.filter(|c| c.labels.get(labels::POD_UID).is_some_and(|of| of == uid)).collect(),
        ))
    }

    pub fn new(mut sandboxes: Vec<PodSandboxStatus>, containers: Vec<ContainerStatus>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
        let mut by_name: BTreeMap<String, Vec<ContainerStatus>> = BTreeMap::new();
        for container in containers {
            by_name.entry(container.name.clone()).or_default().push(container);
        }
        for history in by_name.values_mut() {
            history.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
        }
        Self { sandboxes, containers: by_name }
    }

    /// The sandbox that containers can be started in.
    pub fn sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.first().filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// Number of the next sandbox.
    pub fn next_sandbox_attempt(&self) -> u32 {
        self.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1)
    }

    /// All that is left of a container's runs.
    pub fn history(&self, name: &str) -> &[ContainerStatus] {
        self.containers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A container's latest run.
    pub fn newest(&self, name: &str) -> Option<&ContainerStatus> {
        self.history(name).first()
    }

    pub fn all(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.values().flatten()
    }

    pub fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.all().filter(|container| container.state == ContainerState::Running)
    }

    /// Addresses of the pod, the primary one first.
    pub fn ips(&self) -> Vec<String> {
        self.sandbox().map(|sandbox| sandbox.ips.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }
}

/// Exit code that stands for a container whose end nobody saw.
pub(crate) const UNKNOWN_EXIT_CODE: i32 = 137;

/// The exit code of a container that does not run (any more); `None` if it does or never has.
pub(crate) fn exit_code(container: &ContainerStatus) -> Option<i32> {
    match container.state {
        ContainerState::Exited => Some(container.exit_code),
        ContainerState::Unknown => Some(UNKNOWN_EXIT_CODE),
        ContainerState::Created | ContainerState::Running => None,
    }
}
