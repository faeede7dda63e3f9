//! The phase of a pod, from the states of its containers.

use k8s_openapi::api::core::v1::ContainerStatus;

use super::spec::{ContainerSpec, RestartPolicy, Role};

/// What the phase is made from.
pub(super) struct Basis<'a> {
    pub specs: &'a [ContainerSpec],
    pub policy: RestartPolicy,
    /// Of init and regular containers.
    pub statuses: &'a [ContainerStatus],
    /// The pod is being deleted or has failed, and nothing of it runs.
    pub terminated: bool,
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub(super) fn phase(basis: &Basis<'_>) -> &'static str {
    let status = |spec: &ContainerSpec| basis.statuses.iter().find(|status| status.name == spec.name());
    let mut initializing = false;
    let mut any_running = false;
    for spec in basis.specs.iter().filter(|spec| matches!(spec.role, Role::Init | Role::Sidecar)) {
        let state = status(spec).and_then(|status| status.state.as_ref());
        any_running |= state.is_some_and(|state| state.running.is_some());
        match spec.role {
            Role::Sidecar => initializing |= status(spec).is_none_or(|status| status.started != Some(true)),
            _ => match state.and_then(|state| state.terminated.as_ref()) {
                Some(ended) if ended.exit_code == 0 => {}
                Some(ended) if !spec.restarts(basis.policy, ended.exit_code) => return "Failed",
                _ => initializing = true,
            },
        }
    }
    let (mut waiting, mut running, mut stopped, mut succeeded, mut done) = (0, 0, 0, 0, 0);
    for spec in basis.specs.iter().filter(|spec| spec.role == Role::Regular) {
        let Some(status) = status(spec) else {
            waiting += 1;
            continue;
        };
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            running += 1;
        } else if let Some(ended) = &state.terminated {
            stopped += 1;
            succeeded += usize::from(ended.exit_code == 0);
            done += usize::from(!spec.restarts(basis.policy, ended.exit_code));
        } else if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
            // Waits to be restarted.
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    any_running |= running > 0;
    if basis.terminated && !any_running && stopped > 0 {
        return if stopped == succeeded && waiting == 0 { "Succeeded" } else { "Failed" };
    }
    // A sidecar that ended after the containers it accompanied does not make the pod pending again.
    let started = running + stopped > 0;
    if waiting > 0 || (initializing && !started) {
        return "Pending";
    }
    if any_running || done < stopped || stopped == 0 {
        return if started { "Running" } else { "Pending" };
    }
    if stopped == succeeded { "Succeeded" } else { "Failed" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec;

    fn of(pod: serde_json::Value, statuses: serde_json::Value, terminated: bool) -> &'static str {
        let pod = serde_json::from_value(serde_json::json!({"spec": pod})).unwrap();
        let specs = spec::containers(&pod);
        let statuses: Vec<ContainerStatus> = serde_json::from_value(statuses).unwrap();
        phase(&Basis { specs: &specs, policy: RestartPolicy::of(&pod), statuses: &statuses, terminated })
    }

    fn status(name: &str, state: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn phases_follow_containers_and_policy() {
        let running = || serde_json::json!({"running": {}});
        let waiting = || serde_json::json!({"waiting": {"reason": "ContainerCreating"}});
        let ended = |code: i32| serde_json::json!({"terminated": {"exitCode": code}});
        for (policy, states, expected) in [
            ("Always", vec![waiting()], "Pending"),
            ("Always", vec![running()], "Running"),
            ("Always", vec![running(), waiting()], "Pending"),
            ("Always", vec![ended(0)], "Running"),
            ("OnFailure", vec![ended(0)], "Succeeded"),
            ("OnFailure", vec![ended(0), ended(1)], "Running"),
            ("Never", vec![ended(0), ended(1)], "Failed"),
            ("Never", vec![ended(0), ended(0)], "Succeeded"),
            ("Never", vec![ended(1), running()], "Running"),
        ] {
            let names = ["a", "b"];
            let containers: Vec<_> =
                names.iter().take(states.len()).map(|name| serde_json::json!({"name": name})).collect();
            let statuses: Vec<_> = names.iter().zip(&states).map(|(name, state)| status(name, state.clone())).collect();
            let pod = serde_json::json!({"restartPolicy": policy, "containers": containers});
            assert_eq!(of(pod, statuses.into(), false), expected, "{policy} {states:?}");
        }
    }

    #[test]
    fn a_deleted_pod_ends_whatever_its_policy() {
        let pod = serde_json::json!({"containers": [{"name": "a"}]});
        let statuses = serde_json::json!([status("a", serde_json::json!({"terminated": {"exitCode": 143}}))]);
        assert_eq!(of(pod, statuses, true), "Failed");
    }

    #[test]
    fn initialization_keeps_a_pod_pending_and_can_fail_it() {
        let pod = |policy: &str| serde_json::json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
        let failed = serde_json::json!([
            status("i", serde_json::json!({"terminated": {"exitCode": 1}})),
            status("a", serde_json::json!({"waiting": {}}))
        ]);
        assert_eq!(of(pod("Always"), failed.clone(), false), "Pending");
        assert_eq!(of(pod("Never"), failed, false), "Failed");
    }
}
