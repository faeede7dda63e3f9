//! What is to be done for a pod, given what it wants and what the runtime has. No I/O, no time: the same input gives
//! the same plan, and carrying a plan out twice does no harm.

use k3s_cri::{ContainerState, ContainerStatus};

use super::memory::{Busy, Memory};
use super::observed::{Observed, exit_code};
use super::spec::{ContainerSpec, RestartPolicy, Role};
use crate::labels;

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the volumes and a sandbox.
    Setup,
    /// Start the container, for the first time or again.
    Start {
        name: String,
    },
    Stop {
        name: String,
        id: String,
        why: Why,
    },
    /// Nothing of the pod is to run any more: stop its sandbox.
    Finish,
}

/// Why a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    Deleted,
    /// Its image changed.
    Changed,
    /// A probe failed.
    Unhealthy(&'static str),
    /// The containers it was to accompany are done.
    Done,
    /// Its sandbox is gone.
    SandboxChanged,
    /// The pod as a whole has failed.
    PodFailed,
}

/// What a plan is made from.
pub(super) struct View<'a> {
    pub specs: &'a [ContainerSpec],
    pub policy: RestartPolicy,
    pub observed: &'a Observed,
    pub memory: &'a Memory,
}

/// The steps that can be taken now.
pub(super) fn plan(view: &View<'_>) -> Vec<Action> {
    let sandbox = view.observed.sandbox().map(|sandbox| sandbox.id.as_str());
    let stranded: Vec<Action> = view
        .observed
        .running()
        .filter(|container| Some(container.sandbox_id.as_str()) != sandbox && view.idle(&container.name))
        .map(|container| stop(container, Why::SandboxChanged))
        .collect();
    if !stranded.is_empty() {
        return stranded;
    }
    if view.is_over() {
        return view.wind_down(Why::Done);
    }
    match sandbox {
        None => vec![Action::Setup],
        Some(sandbox) => view.run_in(sandbox),
    }
}

/// The steps that end everything: containers first, then sidecars in the reverse of the order they started in.
pub(super) fn wind_down(view: &View<'_>, why: Why) -> Vec<Action> {
    view.wind_down(why)
}

fn stop(container: &ContainerStatus, why: Why) -> Action {
    Action::Stop { name: container.name.clone(), id: container.id.clone(), why }
}

impl View<'_> {
    fn idle(&self, name: &str) -> bool {
        self.memory.busy(name).is_none()
    }

    fn of(&self, role: Role) -> impl DoubleEndedIterator<Item = &ContainerSpec> {
        self.specs.iter().filter(move |spec| spec.role == role)
    }

    /// Whether a container has ended for good.
    fn is_done(&self, spec: &ContainerSpec) -> bool {
        let ended = self.observed.newest(spec.name()).and_then(exit_code);
        ended.is_some_and(|code| !spec.restarts(self.policy, code))
            && self.memory.busy(spec.name()) != Some(Busy::Starting)
    }

    /// Whether nothing more is to be started: all containers are done, or initialization failed for good.
    fn is_over(&self) -> bool {
        let mut regular = self.of(Role::Regular).peekable();
        let all_done = regular.peek().is_some() && regular.all(|spec| self.is_done(spec));
        all_done || self.of(Role::Init).any(|spec| self.is_done(spec) && self.exit_code(spec) != Some(0))
    }

    fn exit_code(&self, spec: &ContainerSpec) -> Option<i32> {
        self.observed.newest(spec.name()).and_then(exit_code)
    }

    fn wind_down(&self, why: Why) -> Vec<Action> {
        let running = |spec: &ContainerSpec| {
            self.observed.newest(spec.name()).filter(|container| container.state == ContainerState::Running).cloned()
        };
        let mut main = Vec::new();
        let mut left = false;
        for spec in self.specs.iter().filter(|spec| spec.role != Role::Sidecar) {
            left |= !self.idle(spec.name());
            if let Some(container) = running(spec) {
                left = true;
                if self.idle(spec.name()) {
                    main.push(stop(&container, why.clone()));
                }
            }
        }
        if left {
            return main;
        }
        for spec in self.of(Role::Sidecar).rev() {
            if !self.idle(spec.name()) {
                return Vec::new();
            }
            if let Some(container) = running(spec) {
                return vec![stop(&container, why)];
            }
        }
        vec![Action::Finish]
    }

    /// A container's latest run if it is in this sandbox.
    fn here(&self, spec: &ContainerSpec, sandbox: &str) -> Option<&ContainerStatus> {
        self.observed.newest(spec.name()).filter(|container| container.sandbox_id == sandbox)
    }

    fn run_in(&self, sandbox: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        // Once a regular container has been made, initialization is over, whatever is left of it to see.
        let initialized = self.of(Role::Regular).any(|spec| self.here(spec, sandbox).is_some());
        for spec in self.specs.iter().filter(|spec| matches!(spec.role, Role::Init | Role::Sidecar)) {
            let proceed = match spec.role {
                Role::Sidecar => self.keep_running(spec, sandbox, &mut actions),
                _ => initialized || self.initialize(spec, sandbox, &mut actions),
            };
            if !proceed && !initialized {
                return actions;
            }
        }
        for spec in self.of(Role::Regular) {
            self.keep_running(spec, sandbox, &mut actions);
        }
        for spec in self.of(Role::Ephemeral) {
            if self.observed.newest(spec.name()).is_none() && self.idle(spec.name()) {
                actions.push(Action::Start { name: spec.name().to_owned() });
            }
        }
        actions
    }

    /// Brings an init container to its end. Returns whether the next one may start.
    fn initialize(&self, spec: &ContainerSpec, sandbox: &str, actions: &mut Vec<Action>) -> bool {
        if !self.idle(spec.name()) {
            return false;
        }
        match self.here(spec, sandbox).map(|container| (container.state, exit_code(container))) {
            Some((_, Some(0))) => true,
            Some((ContainerState::Running, _)) => false,
            _ => {
                actions.push(Action::Start { name: spec.name().to_owned() });
                false
            }
        }
    }

    /// Starts or restarts a container as its policy says. Returns whether it has started in full.
    fn keep_running(&self, spec: &ContainerSpec, sandbox: &str, actions: &mut Vec<Action>) -> bool {
        let name = spec.name();
        if !self.idle(name) {
            return false;
        }
        let Some(container) = self.here(spec, sandbox) else {
            // A run in an older sandbox that is over for good is not repeated.
            if !self.is_done(spec) {
                actions.push(Action::Start { name: name.to_owned() });
            }
            return false;
        };
        if container.state != ContainerState::Running {
            if !self.is_done(spec) {
                actions.push(Action::Start { name: name.to_owned() });
            }
            return false;
        }
        let hash = container.annotations.get(labels::CONTAINER_HASH);
        if hash.is_some_and(|hash| *hash != labels::hash(&spec.container)) {
            actions.push(stop(container, Why::Changed));
            return false;
        }
        if let Some(probe) = self.memory.probes.get(&container.id).and_then(|probes| probes.failed()) {
            actions.push(stop(container, Why::Unhealthy(probe)));
            return false;
        }
        self.memory.started(name, &container.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::spec;
    use k3s_cri::{PodSandboxStatus, SandboxState};
    use std::collections::BTreeMap;

    fn sandbox(id: &str) -> PodSandboxStatus {
        PodSandboxStatus {
            runtime_handler: String::new(),
            id: id.into(),
            name: "p".into(),
            namespace: "n".into(),
            uid: "u".into(),
            attempt: 0,
            state: SandboxState::Ready,
            created_at: 1,
            ips: vec![],
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    fn container(name: &str, state: ContainerState, exit_code: i32) -> ContainerStatus {
        ContainerStatus {
            id: format!("{name}-id"),
            sandbox_id: "s".into(),
            name: name.into(),
            attempt: 0,
            state,
            created_at: 1,
            started_at: 1,
            finished_at: 1,
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            image_ref: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: Default::default(),
            user: None,
            resources: None,
        }
    }

    fn decide(
        pod: serde_json::Value,
        containers: Vec<ContainerStatus>,
        sandboxes: Vec<PodSandboxStatus>,
    ) -> Vec<Action> {
        let pod = serde_json::from_value(serde_json::json!({"spec": pod})).unwrap();
        let specs = spec::containers(&pod);
        let observed = Observed::new(sandboxes, containers);
        let memory = Memory::default();
        plan(&View { specs: &specs, policy: RestartPolicy::of(&pod), observed: &observed, memory: &memory })
    }

    fn start(name: &str) -> Action {
        Action::Start { name: name.into() }
    }

    use ContainerState::{Exited, Running};

    #[test]
    fn a_new_pod_gets_a_sandbox_and_then_its_containers_in_order() {
        let pod = serde_json::json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(decide(pod.clone(), vec![], vec![]), [Action::Setup]);
        assert_eq!(decide(pod, vec![], vec![sandbox("s")]), [start("a"), start("b")]);
    }

    #[test]
    fn init_containers_run_one_after_the_other() {
        let pod =
            serde_json::json!({"initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "a"}]});
        let run = |containers| decide(pod.clone(), containers, vec![sandbox("s")]);
        assert_eq!(run(vec![]), [start("i1")]);
        assert_eq!(run(vec![container("i1", Running, 0)]), []);
        assert_eq!(run(vec![container("i1", Exited, 1)]), [start("i1")]);
        assert_eq!(run(vec![container("i1", Exited, 0)]), [start("i2")]);
        assert_eq!(run(vec![container("i1", Exited, 0), container("i2", Exited, 0)]), [start("a")]);
        // After the kubelet was away, init containers may have been cleaned up.
        assert_eq!(run(vec![container("a", Running, 0)]), []);
    }

    #[test]
    fn a_failed_init_container_ends_a_pod_that_never_restarts() {
        let pod = serde_json::json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}]});
        assert_eq!(decide(pod, vec![container("i", Exited, 1)], vec![sandbox("s")]), [Action::Finish]);
    }

    #[test]
    fn sidecars_start_first_keep_running_and_stop_last() {
        let pod = serde_json::json!({"restartPolicy": "Never",
            "initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
        let run = |containers| decide(pod.clone(), containers, vec![sandbox("s")]);
        assert_eq!(run(vec![]), [start("side")]);
        assert_eq!(run(vec![container("side", Running, 0)]), [start("a")]);
        assert_eq!(run(vec![container("side", Exited, 0), container("a", Running, 0)]), [start("side")]);
        let ended = run(vec![container("side", Running, 0), container("a", Exited, 0)]);
        assert_eq!(ended, [Action::Stop { name: "side".into(), id: "side-id".into(), why: Why::Done }]);
        assert_eq!(run(vec![container("side", Exited, 0), container("a", Exited, 0)]), [Action::Finish]);
    }

    #[test]
    fn running_containers_are_taken_up_and_ended_ones_follow_their_policy() {
        let always = serde_json::json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let state = vec![container("a", Running, 0), container("b", Exited, 0)];
        assert_eq!(decide(always, state.clone(), vec![sandbox("s")]), [start("b")]);
        let on_failure =
            serde_json::json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(decide(on_failure, state, vec![sandbox("s")]), []);
    }

    #[test]
    fn a_lost_sandbox_is_replaced_and_what_was_done_stays_done() {
        let pod = serde_json::json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]});
        let mut lost = sandbox("s");
        lost.state = SandboxState::NotReady;
        let state = vec![container("a", Exited, 0), container("b", Exited, 137)];
        assert_eq!(decide(pod.clone(), state.clone(), vec![lost.clone()]), [Action::Setup]);
        let mut fresh = sandbox("t");
        fresh.attempt = 1;
        assert_eq!(decide(pod, state, vec![lost, fresh]), [start("b")]);
    }

    #[test]
    fn a_changed_image_restarts_the_container() {
        let mut running = container("a", Running, 0);
        running.annotations.insert(labels::CONTAINER_HASH.into(), "another".into());
        let pod = serde_json::json!({"containers": [{"name": "a", "image": "new"}]});
        let why = Why::Changed;
        let stop = Action::Stop { name: "a".into(), id: "a-id".into(), why };
        assert_eq!(decide(pod, vec![running], vec![sandbox("s")]), [stop]);
    }
}
