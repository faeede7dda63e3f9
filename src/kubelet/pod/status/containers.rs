//! The status of one container.

use jiff::Timestamp;
use k3s_cri::{ContainerState as RuntimeState, ContainerStatus as Run};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Basics;
use crate::labels;
use crate::pod::memory::Busy;
use crate::pod::observed::{UNKNOWN_EXIT_CODE, exit_code};
use crate::pod::spec::{ContainerSpec, RestartPolicy, Role};
use crate::pod::termination_message;

pub(super) fn status(basics: &Basics<'_>, spec: &ContainerSpec) -> ContainerStatus {
    let history = basics.observed.history(spec.name());
    let old = previous(basics, spec);
    let mut status = match history.first() {
        Some(run) => of_run(basics, spec, run, history.get(1)),
        None => not_made(basics, spec, old),
    };
    let memory = basics.memory.containers.get(spec.name());
    let waiting = memory.and_then(|memory| memory.waiting.as_ref());
    let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
    if let Some(waiting) = waiting.filter(|_| !runs && !basics.terminated) {
        let ended = status.state.take().filter(|state| state.terminated.is_some());
        status.last_state = ended.or(status.last_state);
        status.state = Some(self::waiting(waiting.reason, Some(waiting.message.clone())));
    }
    status
}

fn previous<'a>(basics: &Basics<'a>, spec: &ContainerSpec) -> Option<&'a ContainerStatus> {
    let status = basics.pod.status.as_ref()?;
    let list = match spec.role {
        Role::Init | Role::Sidecar => &status.init_container_statuses,
        Role::Regular => &status.container_statuses,
        Role::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.iter().flatten().find(|status| status.name == spec.name())
}

/// A container of which the runtime has nothing: it was not made yet, or its remains are gone.
fn not_made(basics: &Basics<'_>, spec: &ContainerSpec, old: Option<&ContainerStatus>) -> ContainerStatus {
    let ended = old.and_then(|old| old.state.as_ref()).filter(|state| state.terminated.is_some());
    if let (Some(old), Some(state)) = (old, ended) {
        let code = state.terminated.as_ref().map_or(0, |ended| ended.exit_code);
        if basics.terminated || !spec.restarts(RestartPolicy::of(basics.pod), code) {
            return old.clone();
        }
    }
    let initializing = basics.specs.iter().any(|spec| matches!(spec.role, Role::Init | Role::Sidecar));
    let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
    ContainerStatus {
        name: spec.name().to_owned(),
        image: spec.container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, None)),
        last_state: Some(ended.cloned().or_else(|| old?.last_state.clone()).unwrap_or_default()),
        restart_count: old.map_or(0, |old| old.restart_count),
        started: Some(false),
        ..Default::default()
    }
}

fn of_run(basics: &Basics<'_>, spec: &ContainerSpec, run: &Run, before: Option<&Run>) -> ContainerStatus {
    let state = match run.state {
        RuntimeState::Created => waiting("ContainerCreating", None),
        RuntimeState::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(run.started_at) }),
            ..Default::default()
        },
        RuntimeState::Exited | RuntimeState::Unknown => terminated(basics, spec, run),
    };
    let running = run.state == RuntimeState::Running;
    let started = running && basics.memory.started(spec.name(), &run.id);
    let ready = match spec.role {
        Role::Init => exit_code(run) == Some(0),
        Role::Ephemeral => false,
        Role::Sidecar | Role::Regular => {
            running
                && basics.memory.busy(spec.name()) != Some(Busy::Starting)
                && basics.memory.ready(spec.name(), &run.id)
        }
    };
    let restart_count = run.annotations.get(labels::RESTART_COUNT).and_then(|count| count.parse().ok());
    let resources = spec.container.resources.clone();
    ContainerStatus {
        name: spec.name().to_owned(),
        container_id: Some(container_id(&run.id)),
        image: if run.image.is_empty() { spec.container.image.clone().unwrap_or_default() } else { run.image.clone() },
        image_id: if run.image_ref.is_empty() { run.image_id.clone() } else { run.image_ref.clone() },
        state: Some(state),
        last_state: Some(
            before
                .filter(|run| exit_code(run).is_some())
                .map_or_else(ContainerState::default, |run| terminated(basics, spec, run)),
        ),
        ready,
        started: Some(started),
        restart_count: restart_count.unwrap_or(i32::try_from(run.attempt).unwrap_or(i32::MAX)),
        allocated_resources: resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: Some(resources.unwrap_or_default()),
        user: run.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: Some(user.supplemental_groups.iter().map(|group| (*group).into()).collect()),
            }),
        }),
        volume_mounts: volume_mounts(spec),
        ..Default::default()
    }
}

fn volume_mounts(spec: &ContainerSpec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.container.volume_mounts.as_ref()?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let readonly = mount.read_only == Some(true);
        let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: readonly.then_some(true),
            recursive_read_only: readonly.then(|| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
            ..Default::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}

fn terminated(basics: &Basics<'_>, spec: &ContainerSpec, run: &Run) -> ContainerState {
    let unknown = run.state == RuntimeState::Unknown;
    let code = if unknown { UNKNOWN_EXIT_CODE } else { run.exit_code };
    let reason = match (unknown, run.reason.as_str()) {
        (true, _) => "ContainerStatusUnknown",
        (false, "") if code == 0 => "Completed",
        (false, "") => "Error",
        (false, reason) => reason,
    };
    let message = if unknown {
        Some("The container could not be located when the pod was terminated".to_owned())
    } else if !run.message.is_empty() {
        Some(run.message.clone())
    } else {
        let path = termination_message::path(basics.config, basics.pod, spec.name(), run.attempt);
        termination_message::read(&spec.container, &path, &run.log_path, code)
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(&run.id)),
            exit_code: code,
            finished_at: time(run.finished_at),
            message,
            reason: Some(reason.to_owned()),
            signal: None,
            started_at: time(run.started_at),
        }),
        ..Default::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let message = message.filter(|message| !message.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..Default::default()
    }
}

/// A container's id as the API shows it.
fn container_id(id: &str) -> String {
    format!("k3s://{id}")
}

fn time(nanos: k3s_cri::Nanos) -> Option<Time> {
    if nanos == 0 {
        return None;
    }
    // The API has whole seconds; what is read back must compare equal.
    Timestamp::from_second(nanos.div_euclid(1_000_000_000)).ok().map(Time)
}
