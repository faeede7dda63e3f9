//! What the kubelet knows of a pod beyond what API and runtime say.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::image::Pulls;
use crate::probe::Probes;

/// What is being done with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Starting,
    Stopping,
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

/// Memory of one container.
#[derive(Default)]
pub(super) struct ContainerMemory {
    pub busy: Option<Busy>,
    pub waiting: Option<Waiting>,
    pub restarts: Backoff,
    pub pulls: Arc<Mutex<Pulls>>,
    /// Not to be started again before.
    pub retry_at: Option<Instant>,
}

/// Memory of a pod.
#[derive(Default)]
pub(super) struct Memory {
    pub containers: HashMap<String, ContainerMemory>,
    /// By container id.
    pub probes: HashMap<String, Probes>,
    /// The pod may not run (any more): reason and message of its failure.
    pub failed: Option<(String, String)>,
}

impl Memory {
    pub fn container(&mut self, name: &str) -> &mut ContainerMemory {
        self.containers.entry(name.to_owned()).or_default()
    }

    pub fn busy(&self, name: &str) -> Option<Busy> {
        self.containers.get(name).and_then(|memory| memory.busy)
    }

    /// Whether a running container has started in full: its startup probe has succeeded and its postStart hook ended.
    pub fn started(&self, name: &str, id: &str) -> bool {
        self.busy(name) != Some(Busy::Starting) && self.probes.get(id).is_none_or(|probes| probes.started())
    }

    pub fn ready(&self, name: &str, id: &str) -> bool {
        self.started(name, id) && self.probes.get(id).is_none_or(|probes| probes.ready())
    }
}
