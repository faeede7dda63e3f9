//! The cgroup that pods get: found or asked for before the namespaces are made, see [`k3s_systemd::Delegation`].

use std::path::PathBuf;

use k3s_systemd::{Delegation, NotDelegated};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::child::in_child;

/// What the server is told of it. Inside the namespaces the cgroup is `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupInfo {
    /// Pods may have cgroups of their own, with these controllers.
    Delegated { controllers: Vec<String> },
    /// They may not, for this reason, which says what to do.
    Unavailable { reason: String },
}

/// The launcher's side.
#[derive(Debug)]
pub(crate) struct Placement {
    delegation: Option<Delegation>,
    pub info: CgroupInfo,
}

impl Placement {
    /// Gets a cgroup, with this process in its root. To be called before namespaces are made.
    pub fn acquire() -> Self {
        let pid = std::process::id();
        Self::of(in_child(|| Delegation::acquire(pid).map_err(|e| e.to_string())))
    }

    /// Joins the cgroup of an earlier start.
    pub fn join(root: Option<PathBuf>) -> Self {
        let pid = std::process::id();
        let Some(root) = root else { return Self::unavailable(NotDelegated::EarlierStart.to_string()) };
        Self::of(in_child(|| Delegation::join(&root, pid).map_err(|e| e.to_string()))).settled()
    }

    fn of(outcome: std::io::Result<Result<Delegation, String>>) -> Self {
        match outcome {
            Ok(Ok(delegation)) => {
                let info = CgroupInfo::Delegated { controllers: Vec::new() };
                Self { delegation: Some(delegation), info }
            }
            Ok(Err(reason)) => Self::unavailable(reason),
            Err(e) => Self::unavailable(format!("cannot look for a cgroup: {e}")),
        }
    }

    fn unavailable(reason: String) -> Self {
        Self { delegation: None, info: CgroupInfo::Unavailable { reason } }
    }

    /// Puts this process and its children into a leaf, and hands controllers down. To be called when the namespaces
    /// are made.
    pub fn settled(mut self) -> Self {
        if let Some(delegation) = &self.delegation {
            match delegation.settle() {
                Ok(controllers) => self.info = CgroupInfo::Delegated { controllers },
                Err(e) => return Self::unavailable(e.to_string()),
            }
        }
        self
    }

    /// What is to be known of the cgroup, though pods have it.
    pub fn warning(&self) -> Option<String> {
        self.delegation.as_ref().and_then(|delegation| delegation.warning().map(str::to_owned))
    }

    /// As the host has it.
    pub fn root(&self) -> Option<PathBuf> {
        self.delegation.as_ref().map(|delegation| delegation.root().to_owned())
    }

    /// Back to the service this process was started in, if it was; its children stay.
    pub fn leave(&self) {
        if let Some(delegation) = &self.delegation {
            delegation.go_home(std::process::id());
        }
    }
}

/// The relay by which the server inside notifies the service manager that waits for this process, if one does.
pub(crate) fn notify_relay(state_dir: &std::path::Path) -> Option<k3s_systemd::Relay> {
    let relay = k3s_systemd::Notifier::from_env().and_then(|notifier| {
        let wanted = notifier.is_wanted();
        wanted.then(|| k3s_systemd::Relay::listen(&state_dir.join("notify.sock"), notifier)).transpose()
    });
    match relay {
        Ok(relay) => relay,
        Err(error) => {
            warn!(%error, "systemd is not told when the server is ready");
            None
        }
    }
}
