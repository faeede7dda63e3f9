//! The conditions of a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Basics;
use crate::pod::spec::Role;

/// What the conditions are made from.
pub(super) struct Basis<'a> {
    pub basics: &'a Basics<'a>,
    pub phase: &'a str,
    pub init: &'a [ContainerStatus],
    pub regular: &'a [ContainerStatus],
    pub old: &'a PodStatus,
}

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

const TRUE: Verdict = Verdict { status: true, reason: None, message: None };

fn no(reason: &'static str, message: Option<String>) -> Verdict {
    Verdict { status: false, reason: Some(reason), message }
}

/// The conditions that the kubelet is responsible for.
pub(super) fn conditions(basis: &Basis<'_>) -> Vec<PodCondition> {
    let containers_ready = containers_ready(basis);
    let ready = ready(basis, &containers_ready);
    let has_sandbox = basis.basics.observed.sandbox().is_some();
    let ready_to_start = Verdict { status: has_sandbox, reason: None, message: None };
    let verdicts = [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", initialized(basis)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", TRUE),
    ];
    verdicts.into_iter().map(|(type_, verdict)| condition(basis, type_, verdict)).collect()
}

fn condition(basis: &Basis<'_>, type_: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let old = basis.old.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    // The API has whole seconds; what is read back must compare equal.
    let now = Time(Timestamp::from_second(basis.basics.now.as_second()).unwrap_or(basis.basics.now));
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or(now)),
        observed_generation: basis.basics.pod.metadata.generation,
    }
}

fn initialized(basis: &Basis<'_>) -> Verdict {
    let role = |name: &str| basis.basics.specs.iter().find(|spec| spec.name() == name).map(|spec| spec.role);
    let incomplete: Vec<&str> = basis
        .init
        .iter()
        .filter(|status| match role(&status.name) {
            Some(Role::Sidecar) => status.started != Some(true),
            _ => !status.ready,
        })
        .map(|status| status.name.as_str())
        .collect();
    // Once containers have started, initialization stays complete.
    let begun = basis.regular.iter().any(|status| {
        let waiting = status.state.as_ref().is_none_or(|state| state.waiting.is_some());
        let ran_before = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        !waiting || ran_before
    });
    if basis.phase == "Succeeded" {
        return Verdict { reason: Some("PodCompleted"), ..TRUE };
    }
    if incomplete.is_empty() || begun {
        return TRUE;
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    no("ContainersNotInitialized", Some(message))
}

fn containers_ready(basis: &Basis<'_>) -> Verdict {
    match basis.phase {
        "Succeeded" => return no("PodCompleted", None),
        "Failed" => return no("PodFailed", None),
        _ => {}
    }
    let sidecar = |name: &str| basis.basics.specs.iter().any(|spec| spec.name() == name && spec.role == Role::Sidecar);
    let watched = basis.init.iter().filter(|status| sidecar(&status.name)).chain(basis.regular);
    let unready: Vec<&str> = watched.filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return TRUE;
    }
    no("ContainersNotReady", Some(format!("containers with unready status: [{}]", unready.join(" "))))
}

fn ready(basis: &Basis<'_>, containers_ready: &Verdict) -> Verdict {
    if !containers_ready.status {
        let Verdict { status, reason, message } = containers_ready;
        return Verdict { status: *status, reason: *reason, message: message.clone() };
    }
    let gates = basis.basics.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut unmet = Vec::new();
    for gate in gates {
        let name = &gate.condition_type;
        match basis.old.conditions.iter().flatten().find(|condition| condition.type_ == *name) {
            None => unmet.push(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
            Some(condition) if condition.status != "True" => {
                let status = &condition.status;
                unmet.push(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {status}"));
            }
            Some(_) => {}
        }
    }
    match unmet.len() {
        0 => TRUE,
        1 => no("ReadinessGatesNotReady", unmet.pop()),
        _ => no("ReadinessGatesNotReady", Some(format!("[{}]", unmet.join(", ")))),
    }
}
