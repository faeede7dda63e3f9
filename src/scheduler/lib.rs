//! Assigns pods to nodes.
//!
//! Pods without a node wait in a [`queue`]; one at a time is taken, the [`framework`]'s filters say on which nodes it can
//! run and the scores which of those is best, and it is bound there. A pod that fits nowhere waits until something
//! happens that could help it. The view of the nodes ([`node::View`]) is kept up to date from the shared caches and
//! holds what was just bound, before the caches show it.

#![forbid(unsafe_code)]

mod framework;
mod node;
mod plugins;
mod queue;
mod selector;
mod status;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k3s_client::{Change, Changes, Informer, Informers};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use framework::{Diagnosis, Framework};
use node::View;
use queue::{Key, Queue};

/// The scheduler that pods name by default.
pub const NAME: &str = "default-scheduler";

/// Schedules until cancelled.
pub fn run(informers: Informers, cancel: CancellationToken) -> BoxFuture<'static, ()> {
    // Boxed so that the scheduler is compiled with this crate, not with each program that runs it.
    Box::pin(schedule(informers, cancel))
}

async fn schedule(informers: Informers, cancel: CancellationToken) {
    let scheduler = Scheduler {
        pods: informers.of::<Pod>(),
        nodes: informers.of::<Node>(),
        view: Arc::new(Mutex::new(View::default())),
        queue: Queue::default(),
        framework: Framework::new(),
        reports: status::Reports::new(informers.client().clone()),
        informers,
    };
    let (pods, nodes) = (scheduler.pods.subscribe(), scheduler.nodes.subscribe());
    tokio::select! {
        () = cancel.cancelled() => return,
        () = async { tokio::join!(scheduler.pods.synced(), scheduler.nodes.synced()); } => {}
    }
    scheduler.relist();
    tokio::select! {
        () = cancel.cancelled() => {}
        () = scheduler.follow(pods, nodes) => {}
        () = scheduler.schedule() => {}
    }
}

struct Scheduler {
    informers: Informers,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    view: Arc<Mutex<View>>,
    queue: Queue,
    framework: Framework,
    reports: status::Reports,
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether it is this scheduler that has to find a node.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !is_finished(pod)
}

impl Scheduler {
    fn relist(&self) {
        self.view.lock().replace(&self.nodes.list(), &self.pods.list());
        for pod in self.pods.list() {
            self.pod_changed(&pod);
        }
        self.queue.wake_all();
    }

    fn pod_changed(&self, pod: &Arc<Pod>) {
        let key = Key::of(pod);
        let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if assigned && !is_finished(pod) {
            self.queue.remove(&key);
            self.view.lock().add_pod(pod);
        } else if is_ours(pod) {
            let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
            self.queue.add(key, priority, pod.metadata.generation);
        } else {
            self.queue.remove(&key);
            if self.view.lock().remove_pod(&pod.uid().unwrap_or_default()) {
                // Room has come free.
                self.queue.wake_all();
            }
        }
    }

    async fn follow(&self, mut pods: Changes<Pod>, mut nodes: Changes<Node>) {
        loop {
            tokio::select! {
                change = pods.next() => match change {
                    Some(Change::Applied(pod)) => self.pod_changed(&pod),
                    Some(Change::Deleted(pod)) => {
                        self.queue.remove(&Key::of(&pod));
                        self.view.lock().remove_pod(&pod.uid().unwrap_or_default());
                        self.queue.wake_all();
                    }
                    Some(Change::Relisted) => self.relist(),
                    None => return,
                },
                change = nodes.next() => match change {
                    Some(Change::Applied(node)) => {
                        // Heartbeats change nothing a pod could wait for.
                        if self.view.lock().set_node(&node) {
                            self.queue.wake_all();
                        }
                    }
                    Some(Change::Deleted(node)) => self.view.lock().remove_node(&node.name_any()),
                    Some(Change::Relisted) => self.relist(),
                    None => return,
                },
            }
        }
    }

    async fn schedule(&self) {
        loop {
            let key = self.queue.next().await;
            let Some(pod) = self.pods.get(Some(&key.namespace), &key.name).filter(|pod| is_ours(pod)) else {
                self.queue.remove(&key);
                continue;
            };
            let found = self.framework.find(&pod, &mut self.view.lock());
            match found {
                Ok(node) => self.bind(key, pod, node),
                Err(diagnosis) => self.unschedulable(key, &pod, &diagnosis).await,
            }
        }
    }

    /// Binds in a task of its own: the next pod is placed meanwhile, on the view that has this one already.
    fn bind(&self, key: Key, pod: Arc<Pod>, node: String) {
        let (view, queue, reports) = (self.view.clone(), self.queue.clone(), self.reports.clone());
        let client = self.informers.client().clone();
        tokio::spawn(async move {
            let api: Api<Pod> = Api::namespaced(client, &key.namespace);
            let mut binding = Binding {
                target: ObjectReference { kind: Some("Node".into()), name: Some(node.clone()), ..Default::default() },
                ..Binding::default()
            };
            binding.metadata.name = Some(key.name.clone());
            binding.metadata.namespace = Some(key.namespace.clone());
            binding.metadata.uid = pod.uid();
            let bound = api
                .create_subresource::<_, serde_json::Value>("binding", &key.name, &PostParams::default(), &binding)
                .await;
            match bound {
                Ok(_) => reports.scheduled(&pod, &node).await,
                Err(error) => {
                    tracing::warn!(namespace = key.namespace, pod = key.name, node, %error, "cannot bind a pod");
                    view.lock().remove_pod(&pod.uid().unwrap_or_default());
                    queue.retry(&key);
                }
            }
        });
    }

    async fn unschedulable(&self, key: Key, pod: &Arc<Pod>, diagnosis: &Diagnosis) {
        let message = diagnosis.to_string();
        tracing::debug!(namespace = key.namespace, pod = key.name, message, "pod fits on no node");
        self.queue.park(&key);
        self.reports.unschedulable(pod, &message).await;
    }
}

/// The longest a pod waits without being tried again, whatever happens.
const FLUSH: Duration = Duration::from_secs(300);
