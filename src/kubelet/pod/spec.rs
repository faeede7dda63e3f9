//! The containers of a pod, of all kinds, and how they are told apart.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: keeps running beside the others.
    Sidecar,
    Regular,
    /// Added to a running pod to look into it.
    Ephemeral,
}

/// A container with its role.
#[derive(Debug, Clone)]
pub(crate) struct ContainerSpec {
    pub role: Role,
    pub container: Container,
    /// Name of the container whose processes an ephemeral one is to see.
    pub target: Option<String>,
}

impl ContainerSpec {
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// `spec.containers{name}`, as events name it.
    pub fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Regular => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }

    /// Whether a container that ended so runs again.
    pub fn restarts(&self, pod_policy: RestartPolicy, exit_code: i32) -> bool {
        for rule in self.container.restart_policy_rules.iter().flatten() {
            let Some(codes) = &rule.exit_codes else { continue };
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            if rule.action == "Restart" && (codes.operator == "In") == listed {
                return true;
            }
        }
        let own = match self.role {
            Role::Ephemeral => return false,
            Role::Sidecar => RestartPolicy::Always,
            Role::Init | Role::Regular => {
                self.container.restart_policy.as_deref().map_or(pod_policy, RestartPolicy::parse)
            }
        };
        match own {
            // An init container that succeeded is done.
            RestartPolicy::Always => self.role != Role::Init || exit_code != 0,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
}

/// When containers that ended run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: &str) -> Self {
        match text {
            "Never" => RestartPolicy::Never,
            "OnFailure" => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    pub fn of(pod: &Pod) -> Self {
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        Self::parse(policy.unwrap_or("Always"))
    }
}

/// All containers in the order they start.
pub(crate) fn containers(pod: &Pod) -> Vec<ContainerSpec> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        ContainerSpec {
            role: if sidecar { Role::Sidecar } else { Role::Init },
            container: container.clone(),
            target: None,
        }
    });
    let regular =
        spec.containers.iter().map(|c| ContainerSpec { role: Role::Regular, container: c.clone(), target: None });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| ContainerSpec {
        role: Role::Ephemeral,
        container: from_ephemeral(c),
        target: c.target_container_name.clone().filter(|name| !name.is_empty()),
    });
    init.chain(regular).chain(ephemeral).collect()
}

fn from_ephemeral(container: &EphemeralContainer) -> Container {
    let container = container.clone();
    Container {
        args: container.args,
        command: container.command,
        env: container.env,
        env_from: container.env_from,
        image: container.image,
        image_pull_policy: container.image_pull_policy,
        name: container.name,
        security_context: container.security_context,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        termination_message_path: container.termination_message_path,
        termination_message_policy: container.termination_message_policy,
        tty: container.tty,
        volume_mounts: container.volume_mounts,
        working_dir: container.working_dir,
        ..Default::default()
    }
}

/// `name_namespace(uid)`, as messages name a pod.
pub(crate) fn describe(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    format!(
        "{}_{}({})",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default()
    )
}

/// Whether the pod is to go.
pub(crate) fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the API says that the pod has ended; it never runs again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod uses the node's network.
pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(role: Role, container: serde_json::Value) -> ContainerSpec {
        ContainerSpec { role, container: serde_json::from_value(container).unwrap(), target: None }
    }

    #[test]
    fn restarts_follow_the_policies() {
        let plain = serde_json::json!({"name": "c"});
        for (role, policy, code, expected) in [
            (Role::Regular, RestartPolicy::Always, 0, true),
            (Role::Regular, RestartPolicy::OnFailure, 0, false),
            (Role::Regular, RestartPolicy::OnFailure, 1, true),
            (Role::Regular, RestartPolicy::Never, 1, false),
            (Role::Init, RestartPolicy::Always, 0, false),
            (Role::Init, RestartPolicy::Always, 1, true),
            (Role::Init, RestartPolicy::Never, 1, false),
            (Role::Sidecar, RestartPolicy::Never, 0, true),
            (Role::Ephemeral, RestartPolicy::Always, 1, false),
        ] {
            assert_eq!(spec(role, plain.clone()).restarts(policy, code), expected, "{role:?} {policy:?} {code}");
        }
    }

    #[test]
    fn a_containers_own_policy_and_rules_come_first() {
        let never = spec(Role::Regular, serde_json::json!({"name": "c", "restartPolicy": "Never"}));
        assert!(!never.restarts(RestartPolicy::Always, 1));
        let ruled = spec(
            Role::Regular,
            serde_json::json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}),
        );
        assert!(ruled.restarts(RestartPolicy::Never, 42));
        assert!(!ruled.restarts(RestartPolicy::Never, 1));
    }
}
