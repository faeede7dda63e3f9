//! Startup, readiness and liveness probes.
//!
//! A running container has [`Probes`]: a task per probe, which reports when its verdict changes. Readiness and liveness
//! start once the startup probe has succeeded.

mod exec;
mod grpc;
pub(crate) mod http;
mod port;
mod tcp;
mod worker;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use port::resolve as resolve_port;

use crate::context::Context;
use crate::pod::spec::ContainerSpec;

/// The probes of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "startup",
            Kind::Readiness => "readiness",
            Kind::Liveness => "liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// A verdict that changed.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub container_id: String,
    pub kind: Kind,
    pub healthy: bool,
}

/// What is probed.
pub(crate) struct Target {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub spec: ContainerSpec,
    pub container_id: String,
    /// Address of the pod.
    pub host: String,
    pub started_at: Timestamp,
}

/// The probes of one run of a container. Dropping it ends them.
pub(crate) struct Probes {
    target: Arc<Target>,
    verdicts: mpsc::Sender<Verdict>,
    tasks: JoinSet<()>,
    started: bool,
    ready: bool,
    failed: Option<&'static str>,
    stopping: CancellationToken,
}

impl Probes {
    /// Starts probing. `known` is whether the container is already known to have started and to be ready, from before
    /// the kubelet itself was started anew.
    pub fn start(target: Target, known: (bool, bool), verdicts: mpsc::Sender<Verdict>) -> Self {
        let container = &target.spec.container;
        let started = known.0 || container.startup_probe.is_none();
        let ready = known.1 || container.readiness_probe.is_none();
        let mut probes = Self {
            target: Arc::new(target),
            verdicts,
            tasks: JoinSet::new(),
            started,
            ready,
            failed: None,
            stopping: CancellationToken::new(),
        };
        if started {
            probes.start_lasting();
        } else {
            probes.spawn(Kind::Startup);
        }
        probes
    }

    fn start_lasting(&mut self) {
        self.spawn(Kind::Readiness);
        self.spawn(Kind::Liveness);
    }

    fn spawn(&mut self, kind: Kind) {
        if let Some(probe) = kind.of(&self.target.spec.container) {
            let probe = worker::Settings::of(probe);
            let work = worker::run(self.target.clone(), kind, probe, self.verdicts.clone());
            // While a container stops only its readiness still matters.
            let stopping = if kind == Kind::Readiness { CancellationToken::new() } else { self.stopping.clone() };
            self.tasks.spawn(async move {
                stopping.run_until_cancelled(work).await;
            });
        }
    }

    /// Takes a verdict in.
    pub fn apply(&mut self, kind: Kind, healthy: bool) {
        match (kind, healthy) {
            (Kind::Startup, true) if !self.started => {
                self.started = true;
                self.start_lasting();
            }
            (Kind::Startup, true) => {}
            (Kind::Readiness, healthy) => self.ready = healthy,
            (Kind::Liveness | Kind::Startup, false) => self.failed = Some(kind.as_str()),
            (Kind::Liveness, true) => {}
        }
    }

    /// The container is being stopped: whether it lives is no question any more.
    pub fn stopping(&mut self) {
        self.stopping.cancel();
    }

    pub fn started(&self) -> bool {
        self.started
    }

    pub fn ready(&self) -> bool {
        self.started && self.ready
    }

    /// The probe because of which the container is to be stopped.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed
    }

    /// The grace period that the failed probe has of its own, in seconds.
    pub fn grace_period(&self) -> Option<i64> {
        let container = &self.target.spec.container;
        let probe = match self.failed? {
            "startup" => container.startup_probe.as_ref(),
            _ => container.liveness_probe.as_ref(),
        };
        probe?.termination_grace_period_seconds
    }
}

/// How one attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure(String),
    /// Nothing listens at the port: the program has not come so far yet, or is gone.
    Refused(String),
}

impl Outcome {
    fn of_io(error: &std::io::Error, message: String) -> Self {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Outcome::Refused(message),
            _ => Outcome::Failure(message),
        }
    }
}
