//! The status of a pod, from what the runtime has and what the kubelet knows.

mod conditions;
mod containers;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::memory::Memory;
use super::observed::Observed;
use super::phase::{self, Basis};
use super::qos::Qos;
use super::spec::{self, ContainerSpec, RestartPolicy, Role};
use crate::config::Config;

/// What a status is made from.
pub(super) struct Basics<'a> {
    pub config: &'a Config,
    pub pod: &'a Pod,
    pub specs: &'a [ContainerSpec],
    pub observed: &'a Observed,
    pub memory: &'a Memory,
    /// The pod is to end and nothing of it runs or will run.
    pub terminated: bool,
    pub now: Timestamp,
}

/// The whole status. Conditions of others (`readinessGates`, …) are not in it.
pub(super) fn status(basics: &Basics<'_>) -> PodStatus {
    let Basics { config, pod, specs, observed, memory, .. } = *basics;
    let old = pod.status.clone().unwrap_or_default();
    let of = |roles: &[Role]| {
        let chosen = specs.iter().filter(|spec| roles.contains(&spec.role));
        chosen.map(|spec| containers::status(basics, spec)).collect::<Vec<_>>()
    };
    let init = of(&[Role::Init, Role::Sidecar]);
    let mut regular = of(&[Role::Regular]);
    let ephemeral = of(&[Role::Ephemeral]);

    let policy = RestartPolicy::of(pod);
    let all = [init.clone(), regular.clone()].concat();
    let phase = phase::phase(&Basis { specs, policy, statuses: &all, terminated: basics.terminated });
    let any_running = observed.running().next().is_some();
    let phase = match &memory.failed {
        // A pod is not over while something of it runs.
        Some(_) if any_running => old.phase.as_deref().unwrap_or("Running"),
        Some(_) => "Failed",
        None if spec::has_ended(pod) => old.phase.as_deref().unwrap_or(phase),
        None => phase,
    }
    .to_owned();
    // What has failed keeps its reason, also after a restart of the kubelet.
    let keep = |text: &Option<String>| text.clone().filter(|_| old.phase.as_deref() == Some("Failed"));
    let (reason, message) = match &memory.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (keep(&old.reason), keep(&old.message)),
    };

    let host_ips: Vec<String> = host_ips(config);
    let pod_ips = pod_ips(config, pod, observed, &old);
    let basis = conditions::Basis { basics, phase: &phase, init: &init, regular: &regular, old: &old };
    let conditions = conditions::conditions(&basis);
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    let some = |list: Vec<_>| Some(list).filter(|list| !list.is_empty());
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
        conditions: Some(conditions),
        reason,
        message,
        host_ip: host_ips.first().cloned(),
        host_ips: Some(host_ips.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: Some(pod_ips.into_iter().map(|ip| PodIP { ip }).collect::<Vec<_>>()).filter(|ips| !ips.is_empty()),
        start_time: Some(old.start_time.unwrap_or(Time(basics.now))),
        init_container_statuses: some(init),
        container_statuses: some(regular),
        ephemeral_container_statuses: some(ephemeral),
        qos_class: Some(old.qos_class.unwrap_or_else(|| Qos::of(pod).as_str().to_owned())),
        ..Default::default()
    }
}

/// The node's addresses as pods see them, one per family.
pub(super) fn host_ips(config: &Config) -> Vec<String> {
    let mut ips: Vec<std::net::IpAddr> = Vec::new();
    for ip in &config.node_ips {
        if !ips.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            ips.push(*ip);
        }
    }
    ips.iter().map(ToString::to_string).collect()
}

fn pod_ips(config: &Config, pod: &Pod, observed: &Observed, old: &PodStatus) -> Vec<String> {
    let known = old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if observed.sandbox().is_none() {
        // Without a sandbox the last address is still worth telling.
        return known;
    }
    if spec::host_network(pod) {
        return host_ips(config);
    }
    match observed.ips() {
        ips if ips.is_empty() => known,
        ips => ips,
    }
}
