//! The actor of one pod.
//!
//! It looks at what the API wants and what the runtime has, starts the steps that are missing as tasks of its own, and
//! writes the status. It can be stopped at any point and started anew: everything it must know is in the API and the
//! runtime.

mod finish;
mod publish;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::field_path::Addresses;
use super::memory::Memory;
use super::observed::Observed;
use super::spec::{self, ContainerSpec};
use super::start::Failure;
use super::status;
use crate::context::Context;
use crate::probe::Verdict;
use crate::volume::{Mounted, Volumes};

/// What the API says of a pod.
#[derive(Debug, Clone)]
pub(crate) enum Desired {
    /// It is there, perhaps to be deleted.
    Present(Arc<Pod>),
    /// It is gone; this is how it was last.
    Gone(Arc<Pod>),
}

/// What a task of the actor has come to.
enum Done {
    Setup(Result<Arc<BTreeMap<String, Mounted>>, String>),
    Started { name: String, result: Result<(), Failure> },
    Stopped { name: String },
    Refreshed { failed: bool },
    Published(Result<Box<Pod>, kube::Error>),
    Finished { removed: bool, result: Result<(), String> },
}

/// How far the end of a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It runs, or its containers are being stopped.
    NotYet,
    /// Nothing runs; its sandbox is being stopped.
    Finishing,
    /// Its volumes, its logs and the states of its containers are all that is left.
    Finished,
    /// Those are being taken away too, and the pod from the API.
    Removing,
    /// Nothing is left here. The API may keep the object until its finalizers are done.
    Removed,
}

/// How often everything is looked at though nothing was heard.
const RESYNC: Duration = Duration::from_secs(60);
/// How often volumes made from API objects are brought up to date.
const REFRESH_VOLUMES: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// One pod on this node.
pub(crate) struct Actor {
    ctx: Arc<Context>,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    pod: Arc<Pod>,
    gone: bool,
    uid: String,
    specs: Vec<ContainerSpec>,
    memory: Memory,
    volumes: Arc<Mutex<Volumes>>,
    /// Set once the volumes are there.
    mounted: Option<Arc<BTreeMap<String, Mounted>>>,
    jobs: JoinSet<Done>,
    /// Ends what starts containers, when the pod is to end.
    starting: CancellationToken,
    verdicts: (mpsc::Sender<Verdict>, mpsc::Receiver<Verdict>),
    setting_up: bool,
    setup_failures: u32,
    setup_retry: Option<Instant>,
    refresh_at: Instant,
    refreshing: bool,
    publishing: bool,
    publish_retry: Option<Instant>,
    /// How often in a row the API has refused the status.
    refusals: u32,
    end: End,
    end_retry: Option<Instant>,
    /// When the pod has to have ended.
    stop_by: Option<Instant>,
}

impl Actor {
    /// An actor that is told of its pod by `desired` and woken by `wake` when the runtime did something to it.
    /// `refused` is why this node does not take the pod.
    pub fn new(
        ctx: Arc<Context>,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        refused: Option<(String, String)>,
    ) -> Self {
        let (pod, gone) = match &*desired.borrow() {
            Desired::Present(pod) => (pod.clone(), false),
            Desired::Gone(pod) => (pod.clone(), true),
        };
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            specs: spec::containers(&pod),
            memory: Memory { failed: refused, ..Default::default() },
            volumes: Arc::default(),
            mounted: None,
            jobs: JoinSet::new(),
            starting: CancellationToken::new(),
            verdicts: mpsc::channel(16),
            setting_up: false,
            setup_failures: 0,
            setup_retry: None,
            refresh_at: Instant::now() + REFRESH_VOLUMES,
            refreshing: false,
            publishing: false,
            publish_retry: None,
            refusals: 0,
            end: End::NotYet,
            end_retry: None,
            stop_by: None,
            ctx,
            desired,
            wake,
            pod,
            gone,
        }
    }

    /// Works until the pod is gone, from the API and from this node, or until `cancel`; then what runs is left running.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            if self.gone && self.end == End::Removed {
                return;
            }
            let next = self.step().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.desired.changed() => if changed.is_err() { return },
                () = self.wake.notified() => {}
                Some(done) = self.jobs.join_next() => self.take_in(done),
                Some(verdict) = self.verdicts.1.recv() => self.judge(&verdict),
                () = tokio::time::sleep_until(next) => {}
            }
            // What else has come meanwhile is one step, not many.
            while let Some(done) = self.jobs.try_join_next() {
                self.take_in(done);
            }
            while let Ok(verdict) = self.verdicts.1.try_recv() {
                self.judge(&verdict);
            }
            self.read_desired();
        }
    }

    fn read_desired(&mut self) {
        let desired = self.desired.borrow_and_update().clone();
        let (pod, gone) = match desired {
            Desired::Present(pod) => (pod, false),
            Desired::Gone(pod) => (pod, true),
        };
        self.gone = gone;
        // What comes by the watch may be older than the answer to the actor's own last patch.
        if resource_version(&pod) > resource_version(&self.pod) {
            self.set_pod(pod);
        }
    }

    fn set_pod(&mut self, pod: Arc<Pod>) {
        self.specs = spec::containers(&pod);
        self.pod = pod;
    }

    fn judge(&mut self, verdict: &Verdict) {
        if let Some(probes) = self.memory.probes.get_mut(&verdict.container_id) {
            probes.apply(verdict.kind, verdict.healthy);
        }
    }

    /// Whether the pod is to end.
    fn ending(&self) -> bool {
        self.gone || self.memory.failed.is_some() || spec::is_deleted(&self.pod) || spec::has_ended(&self.pod)
    }

    fn addresses(&self, observed: &Observed) -> Addresses {
        let host_ips = status::host_ips(&self.ctx.config);
        let pod_ips = if spec::host_network(&self.pod) { host_ips.clone() } else { observed.ips() };
        Addresses { pod_ips, host_ips }
    }

    fn take_in(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                // A task of this pod panicked. Which one is not known, so none counts as running.
                tracing::error!(pod = self.pod.metadata.name, %error, "task of pod ended early");
                self.forget_jobs();
                return;
            }
        };
        match done {
            Done::Setup(result) => self.set_up(result),
            Done::Started { name, result } => self.started(&name, result),
            Done::Stopped { name } => self.memory.container(&name).busy = None,
            Done::Refreshed { failed } => {
                self.refreshing = false;
                let pause = if failed { REFRESH_VOLUMES / 6 } else { REFRESH_VOLUMES };
                self.refresh_at = Instant::now() + pause;
            }
            Done::Published(result) => self.published(result),
            Done::Finished { removed, result } => self.finished(removed, result),
        }
    }

    fn forget_jobs(&mut self) {
        self.jobs.abort_all();
        self.setting_up = false;
        self.refreshing = false;
        self.publishing = false;
        for memory in self.memory.containers.values_mut() {
            memory.busy = None;
        }
        match self.end {
            End::Finishing => self.end = End::NotYet,
            End::Removing => self.end = End::Finished,
            End::NotYet | End::Finished | End::Removed => {}
        }
    }
}

/// Resource versions of one object grow: <https://kep.k8s.io/5504>.
fn resource_version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
