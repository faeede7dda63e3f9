//! From plan to tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k3s_cri::{ContainerState, ContainerStatus};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Actor, Done, End, RESYNC, RETRY};
use crate::events::Severity;
use crate::pod::backoff::go_duration;
use crate::pod::memory::{Busy, Waiting};
use crate::pod::observed::{Observed, exit_code};
use crate::pod::plan::{self, Action, View, Why};
use crate::pod::setup::Setup;
use crate::pod::spec::{self, ContainerSpec, RestartPolicy, Role};
use crate::pod::start::{Failure, Start};
use crate::pod::stop::Stop;
use crate::probe::{Probes, Target};
use crate::volume::Mounted;

const DEFAULT_GRACE_SECONDS: i64 = 30;

impl Actor {
    /// Does what can be done now. Returns when to look again if nothing is heard before.
    pub(super) async fn step(&mut self) -> Instant {
        let began = Instant::now();
        if self.end == End::Removed || self.end == End::Removing {
            return began + RESYNC;
        }
        let observed = match Observed::read(self.ctx.runtime.as_ref(), &self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = self.pod.metadata.name, %error, "cannot ask the runtime; it is tried again");
                return Instant::now() + RETRY;
            }
        };
        self.check_deadline();
        self.probe(&observed);
        let ending = self.ending();
        if ending {
            self.starting.cancel();
        }
        let view = View {
            specs: &self.specs,
            policy: RestartPolicy::of(&self.pod),
            observed: &observed,
            memory: &self.memory,
        };
        let actions = match ending {
            true if self.memory.failed.is_some() => plan::wind_down(&view, Why::PodFailed),
            true => plan::wind_down(&view, Why::Deleted),
            false => plan::plan(&view),
        };
        let over = actions.contains(&Action::Finish) && !self.setting_up;
        if !ending && !over {
            self.keep_volumes(&observed);
        }
        let mut turn: Option<oneshot::Receiver<()>> = None;
        for action in actions {
            match action {
                Action::Setup => self.set_up_sandbox(&observed),
                Action::Start { name } => self.start(&name, &observed, &mut turn),
                Action::Stop { name, id, why } => self.stop(&name, &id, why, &observed),
                Action::Finish => {}
            }
        }
        self.publish(&observed, ending && over);
        if over {
            self.finish(&observed);
        }
        self.next_look(began)
    }

    fn check_deadline(&mut self) {
        if let Some(left) = self.deadline()
            && left.is_zero()
            && !self.ending()
        {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.ctx.recorder.pod(&self.pod, None, Severity::Normal, "DeadlineExceeded", message.clone());
            self.memory.failed = Some(("DeadlineExceeded".into(), message));
        }
    }

    /// How much longer the pod may be active, if that is limited.
    fn deadline(&self) -> Option<Duration> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let began = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let left = SignedDuration::from_secs(seconds) - Timestamp::now().duration_since(began);
        Some(Duration::try_from(left).unwrap_or_default())
    }

    /// When something is due next; what was due when this step began has been looked at.
    fn next_look(&self, began: Instant) -> Instant {
        let now = Instant::now();
        let mut next = now + RESYNC;
        let retries = self.memory.containers.values().filter_map(|memory| memory.retry_at);
        let own = [self.setup_retry, self.publish_retry, self.end_retry].into_iter().flatten();
        for at in retries.chain(own).filter(|at| *at > began) {
            next = next.min(at);
        }
        if self.mounted.is_some() && !self.refreshing && self.end == End::NotYet {
            next = next.min(self.refresh_at);
        }
        if let Some(left) = self.deadline().filter(|_| !self.ending()) {
            next = next.min(now + left);
        }
        // Never at once: whatever makes for that is a reason to look again, not to spin.
        next.max(now + Duration::from_millis(5))
    }

    /// Starts the probes of containers that run, and ends those of containers that don't.
    fn probe(&mut self, observed: &Observed) {
        let running: Vec<&ContainerStatus> = observed.running().collect();
        self.memory.probes.retain(|id, _| running.iter().any(|container| container.id == *id));
        let addresses = self.addresses(observed);
        for container in running {
            let Some(spec) = self.specs.iter().find(|spec| spec.name() == container.name) else { continue };
            // A container counts as started only after its postStart hook; its probes begin then.
            let busy = self.memory.busy(&container.name).is_some();
            let probed = matches!(spec.role, Role::Regular | Role::Sidecar);
            if busy || !probed || self.memory.probes.contains_key(&container.id) {
                continue;
            }
            let target = Target {
                ctx: self.ctx.clone(),
                pod: self.pod.clone(),
                spec: spec.clone(),
                container_id: container.id.clone(),
                host: addresses.pod_ips.first().cloned().unwrap_or_else(|| "127.0.0.1".into()),
                started_at: Timestamp::from_nanosecond(container.started_at.into()).unwrap_or(Timestamp::UNIX_EPOCH),
            };
            let known = self.known(spec, container);
            self.memory.probes.insert(container.id.clone(), Probes::start(target, known, self.verdicts.0.clone()));
        }
    }

    /// What the API says of this very run: it was started and ready before the kubelet was started anew.
    fn known(&self, spec: &ContainerSpec, container: &ContainerStatus) -> (bool, bool) {
        let Some(status) = &self.pod.status else { return (false, false) };
        let list =
            if spec.role == Role::Sidecar { &status.init_container_statuses } else { &status.container_statuses };
        let known = list.iter().flatten().find(|status| {
            status.name == container.name
                && status.container_id.as_deref().is_some_and(|id| id.ends_with(&container.id))
        });
        known.map_or((false, false), |known| (known.started == Some(true), known.ready))
    }

    /// Makes the volumes of a pod whose sandbox is there from before, and keeps all volumes up to date.
    fn keep_volumes(&mut self, observed: &Observed) {
        let Some(mounted) = &self.mounted else {
            if observed.sandbox().is_some() {
                self.spawn_setup(observed, None);
            }
            return;
        };
        if self.refreshing || Instant::now() < self.refresh_at || mounted.is_empty() {
            return;
        }
        self.refreshing = true;
        let (ctx, pod, volumes) = (self.ctx.clone(), self.pod.clone(), self.volumes.clone());
        let addresses = self.addresses(observed);
        self.jobs.spawn(async move {
            let failures = volumes.lock().await.refresh(&ctx, &pod, &addresses).await;
            for (volume, error) in &failures {
                let message = format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}");
                ctx.recorder.pod(&pod, None, Severity::Warning, "FailedMount", message);
            }
            Done::Refreshed { failed: !failures.is_empty() }
        });
    }

    fn set_up_sandbox(&mut self, observed: &Observed) {
        if !observed.sandboxes.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            if !self.setting_up && self.setup_retry.is_none() {
                self.ctx.recorder.pod(&self.pod, None, Severity::Normal, "SandboxChanged", message);
            }
        }
        self.spawn_setup(observed, Some(observed.next_sandbox_attempt()));
    }

    fn spawn_setup(&mut self, observed: &Observed, sandbox_attempt: Option<u32>) {
        if self.setting_up || self.setup_retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.setting_up = true;
        self.setup_retry = None;
        let setup = Setup {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            volumes: self.volumes.clone(),
            addresses: self.addresses(observed),
            old_sandboxes: match sandbox_attempt {
                Some(_) => observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect(),
                None => Vec::new(),
            },
            sandbox_attempt,
        };
        self.jobs.spawn(async move { Done::Setup(setup.run().await) });
    }

    pub(super) fn set_up(&mut self, result: Result<Arc<BTreeMap<String, Mounted>>, String>) {
        self.setting_up = false;
        match result {
            Ok(mounted) => {
                self.mounted = Some(mounted);
                self.setup_failures = 0;
            }
            Err(error) => {
                tracing::warn!(pod = self.pod.metadata.name, error, "cannot set up pod; it is tried again");
                // From half a second, doubling to a minute.
                let pause = Duration::from_millis(500) * 2u32.pow(self.setup_failures.min(7));
                self.setup_failures += 1;
                self.setup_retry = Some(Instant::now() + pause);
            }
        }
    }

    fn start(&mut self, name: &str, observed: &Observed, turn: &mut Option<oneshot::Receiver<()>>) {
        let (Some(mounted), Some(sandbox)) = (self.mounted.clone(), observed.sandbox()) else { return };
        if self.memory.container(name).retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Some(spec) = self.specs.iter().find(|spec| spec.name() == name).cloned() else { return };
        let addresses = self.addresses(observed);
        let history = observed.history(name);
        if let Some(last) = history.first().filter(|last| exit_code(last).is_some())
            && self.backs_off(&spec, last)
        {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let memory = self.memory.container(name);
        memory.retry_at = None;
        memory.busy = Some(Busy::Starting);
        let start = Start {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            attempt: next_attempt(history),
            sandbox_id: sandbox.id.clone(),
            addresses,
            volumes: mounted,
            pulls: memory.pulls.clone(),
            stale: stale(history),
            after: turn.replace(receiver),
            turn: sender,
            cancel: self.starting.clone(),
            target: spec.target.as_ref().and_then(|name| observed.newest(name)).map(|target| target.id.clone()),
            spec,
        };
        let name = name.to_owned();
        self.jobs.spawn(async move { Done::Started { name, result: start.run().await } });
    }

    /// Whether a container that ended has to wait before it runs again.
    fn backs_off(&mut self, spec: &ContainerSpec, last: &ContainerStatus) -> bool {
        let ended = Timestamp::from_nanosecond(last.finished_at.max(last.created_at).into());
        let ended = ended.unwrap_or(Timestamp::UNIX_EPOCH);
        let now = Timestamp::now();
        let described = spec::describe(&self.pod);
        let name = spec.name();
        let memory = self.memory.container(name);
        let Some(left) = memory.restarts.remaining(ended, now) else {
            memory.restarts.count(ended, now);
            return false;
        };
        let delay = go_duration(memory.restarts.delay());
        let message = format!("back-off {delay} restarting failed container={name} pod={described}");
        memory.waiting = Some(Waiting { reason: "CrashLoopBackOff", message });
        memory.retry_at = Some(Instant::now() + left);
        let event = format!("Back-off restarting failed container {name} in pod {described}");
        self.ctx.recorder.pod(&self.pod, Some(spec.field_path()), Severity::Warning, "BackOff", event);
        true
    }

    pub(super) fn started(&mut self, name: &str, result: Result<(), Failure>) {
        let memory = self.memory.container(name);
        memory.busy = None;
        match result {
            Ok(()) => memory.waiting = None,
            Err(failure) => {
                tracing::debug!(container = name, reason = failure.waiting.reason, "container not started");
                memory.waiting = Some(failure.waiting);
                memory.retry_at = Some(Instant::now() + failure.retry);
            }
        }
    }

    fn stop(&mut self, name: &str, id: &str, why: Why, observed: &Observed) {
        let spec = self.specs.iter().find(|spec| spec.name() == name).cloned().unwrap_or_else(|| ContainerSpec {
            role: Role::Regular,
            container: k8s_openapi::api::core::v1::Container { name: name.to_owned(), ..Default::default() },
            target: None,
        });
        let stop = Stop {
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            container_id: id.to_owned(),
            grace: self.grace(id, &why),
            pod_host: self.addresses(observed).pod_ips.first().cloned().unwrap_or_else(|| "127.0.0.1".into()),
            spec,
            why,
        };
        self.memory.container(name).busy = Some(Busy::Stopping);
        if let Some(probes) = self.memory.probes.get_mut(id) {
            probes.stopping();
        }
        let name = name.to_owned();
        self.jobs.spawn(async move {
            stop.run().await;
            Done::Stopped { name }
        });
    }

    /// How long a container has to end by itself.
    fn grace(&mut self, id: &str, why: &Why) -> Duration {
        let of_spec = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let of_probe = match why {
            Why::Unhealthy(_) => self.memory.probes.get(id).and_then(Probes::grace_period),
            _ => None,
        };
        // A shorter time asked for at deletion counts.
        let of_deletion = self.pod.metadata.deletion_grace_period_seconds.filter(|_| spec::is_deleted(&self.pod));
        let seconds = of_probe.or(of_deletion).or(of_spec).unwrap_or(DEFAULT_GRACE_SECONDS);
        // Even a pod deleted by force gets the stop signal.
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1));
        if !self.ending() {
            return grace;
        }
        // Sidecars stop after the others, in what is left of the pod's time.
        let by = *self.stop_by.get_or_insert(Instant::now() + grace);
        by.saturating_duration_since(Instant::now()).min(grace).max(Duration::from_secs(1))
    }
}

/// Number of a container's next run.
fn next_attempt(history: &[ContainerStatus]) -> u32 {
    match history.first() {
        // It was made but never started: the kubelet was stopped in between.
        Some(last) if last.state == ContainerState::Created => last.attempt,
        Some(last) => last.attempt + 1,
        None => 0,
    }
}

/// Runs to forget when a new one is made: what was never started, and all that ended but the latest, whose logs
/// `--previous` shows.
fn stale(history: &[ContainerStatus]) -> Vec<String> {
    let created = history.iter().filter(|run| run.state == ContainerState::Created);
    let ended = history.iter().filter(|run| exit_code(run).is_some()).skip(1);
    created.chain(ended).map(|run| run.id.clone()).collect()
}
