//! Keeps as many pods of a replica set as it asks for.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k3s_client::Informer;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::endpointslice::is_pod_ready;
use crate::event::Events;
use crate::owner::{controller, controller_of, is_controlled_by, selects};
use crate::queue::{Key, Queue};
use crate::{Context, Error, each_change, is_status};

/// The most pods made or deleted for one replica set at a time, as in kube-controller-manager.
const BURST: usize = 500;
/// How long to wait for the cache to show what was just done, before going on with what it shows.
const STALE: Duration = Duration::from_secs(5);

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<Key> = Queue::default();
    let (sets, pods) = (informers.of::<ReplicaSet>(), informers.of::<Pod>());
    let client = context.client.clone();
    let controller = Arc::new(Controller {
        events: Events::new(client.clone(), "replicaset-controller"),
        client,
        sets: sets.clone(),
        pods: pods.clone(),
        queue: queue.clone(),
        expected: Mutex::default(),
    });
    let (of_set, of_pod) = (queue.clone(), queue.clone());
    tokio::join!(
        each_change(sets.clone(), cancel.clone(), |set| of_set.add(Key::of(set))),
        each_change(pods.clone(), cancel.clone(), |pod| keys_of(pod, &sets)
            .into_iter()
            .for_each(|key| of_pod.add(key))),
        async {
            sets.synced().await;
            pods.synced().await;
            queue.run("replicaset", 4, cancel.clone(), |key| controller.clone().sync(key)).await;
        }
    );
}

/// The replica set that owns a pod; for an orphan, those that could adopt it.
fn keys_of(pod: &Pod, sets: &Informer<ReplicaSet>) -> Vec<Key> {
    match controller(pod) {
        Some(owner) if owner.kind == "ReplicaSet" => vec![Key::beside(pod, &owner.name)],
        Some(_) => Vec::new(),
        None => sets
            .list()
            .iter()
            .filter(|set| {
                set.namespace() == pod.namespace() && selects(&set.spec.clone().unwrap_or_default().selector, pod)
            })
            .map(|set| Key::of(&**set))
            .collect(),
    }
}

/// What the cache has yet to show of a replica set's last action.
struct Expected {
    until: Instant,
    made: Vec<String>,
    deleted: Vec<String>,
}

struct Controller {
    client: Client,
    events: Events,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    queue: Queue<Key>,
    expected: Mutex<HashMap<Key, Expected>>,
}

impl Controller {
    async fn sync(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(set) = self.sets.get(Some(&key.namespace), &key.name) else {
            self.expected.lock().remove(&key);
            return Ok(());
        };
        if !self.is_caught_up(&key) {
            self.queue.add_after(key, Duration::from_millis(50));
            return Ok(());
        }
        let pods = self.claim(&set).await?;
        let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let wanted = usize::try_from(set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).unwrap_or(0);
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() {
            let result = match active.len() {
                have if have < wanted => self.make(&set, &key, (wanted - have).min(BURST)).await,
                have if have > wanted => {
                    self.delete(&set, &key, surplus(active.clone(), (have - wanted).min(BURST))).await
                }
                _ => Ok(()),
            };
            failure = result.err();
        }
        self.update_status(&set, &active, failure.as_ref().map(ToString::to_string)).await?;
        failure.map_or(Ok(()), Err)
    }

    fn is_caught_up(&self, key: &Key) -> bool {
        let mut expected = self.expected.lock();
        let Some(waiting) = expected.get(key) else { return true };
        let shown = |name: &String| self.pods.get(Some(&key.namespace), name).is_some();
        let gone = |name: &String| {
            self.pods.get(Some(&key.namespace), name).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
        };
        let done = waiting.made.iter().all(shown) && waiting.deleted.iter().all(gone);
        if done || waiting.until <= Instant::now() {
            expected.remove(key);
            return true;
        }
        false
    }

    fn expect(&self, key: &Key, made: Vec<String>, deleted: Vec<String>) {
        self.expected.lock().insert(key.clone(), Expected { until: Instant::now() + STALE, made, deleted });
    }

    /// The pods of a replica set. Orphans that match become its own, and its own that no longer match are let go.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = set.spec.clone().unwrap_or_default().selector;
        let namespace = set.namespace();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace.as_deref().unwrap_or_default());
        let deleting = set.metadata.deletion_timestamp.is_some();
        let mut claimed = Vec::new();
        for pod in self.pods.list().into_iter().filter(|pod| pod.namespace() == namespace) {
            let matches = selects(&selector, &*pod);
            let patch = if is_controlled_by(&*pod, set) {
                if matches || deleting {
                    claimed.push(pod);
                    continue;
                }
                json!({"metadata": {"uid": pod.uid(),
                    "ownerReferences": [{"$patch": "delete", "uid": set.uid()}]}})
            } else if matches && controller(&*pod).is_none() && is_active(&pod) && !deleting {
                json!({"metadata": {"uid": pod.uid(), "ownerReferences": [controller_of(set)]}})
            } else {
                continue;
            };
            let patched = api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
            if is_status(&patched, 404) || is_status(&patched, 422) {
                continue;
            }
            let patched = patched?;
            if matches {
                claimed.push(Arc::new(patched));
            }
        }
        Ok(claimed)
    }

    async fn make(&self, set: &ReplicaSet, key: &Key, count: usize) -> Result<(), Error> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        let pod = pod_of(set, template);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut made = Vec::new();
        // One, then twice as many each time: if all of them fail, the API server is asked only once.
        let mut batch = 1;
        let mut result = Ok(());
        while made.len() < count && result.is_ok() {
            let now = batch.min(count - made.len());
            let answers =
                futures::future::join_all((0..now).map(|_| async { api.create(&PostParams::default(), &pod).await }))
                    .await;
            for answer in answers {
                match answer {
                    Ok(pod) => {
                        let note = format!("Created pod: {}", pod.name_any());
                        self.events.normal(set, "SuccessfulCreate", "CreatePod", note).await;
                        made.push(pod.name_any());
                    }
                    Err(error) => result = Err(Error::from(error)),
                }
            }
            batch *= 2;
        }
        self.expect(key, made, Vec::new());
        if let Err(error) = &result {
            self.events.warning(set, "FailedCreate", "CreatePod", format!("Error creating: {error}")).await;
        }
        result
    }

    async fn delete(&self, set: &ReplicaSet, key: &Key, surplus: Vec<Arc<Pod>>) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let deletions = surplus.iter().map(|pod| async {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
                ..DeleteParams::default()
            };
            let result = api.delete(&pod.name_any(), &params).await;
            if is_status(&result, 404) || is_status(&result, 409) {
                return Ok(());
            }
            result?;
            let note = format!("Deleted pod: {}", pod.name_any());
            self.events.normal(set, "SuccessfulDelete", "DeletePod", note).await;
            Ok::<_, kube::Error>(())
        });
        let results = futures::future::join_all(deletions).await;
        self.expect(key, Vec::new(), surplus.iter().map(|pod| pod.name_any()).collect());
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    async fn update_status(&self, set: &ReplicaSet, active: &[Arc<Pod>], failure: Option<String>) -> Result<(), Error> {
        let spec = set.spec.clone().unwrap_or_default();
        let wanted_labels = spec.template.unwrap_or_default().metadata.and_then(|meta| meta.labels).unwrap_or_default();
        let ready = active.iter().filter(|pod| is_pod_ready(pod));
        let min_ready = Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
        let waits: Vec<Duration> = ready.map(|pod| until_available(pod, min_ready)).collect();
        if let Some(soonest) = waits.iter().filter(|wait| !wait.is_zero()).min() {
            self.queue.add_after(Key::of(set), *soonest);
        }
        let count = |number: usize| Some(i32::try_from(number).unwrap_or(i32::MAX));
        let labelled = active.iter().filter(|pod| wanted_labels.iter().all(|(k, v)| pod.labels().get(k) == Some(v)));
        let old = set.status.clone().unwrap_or_default();
        let mut conditions = old.conditions.clone().unwrap_or_default();
        conditions.retain(|condition| condition.type_ != "ReplicaFailure" || failure.is_some());
        if let Some(message) = failure
            && !conditions.iter().any(|condition| condition.type_ == "ReplicaFailure")
        {
            conditions.push(k8s_openapi::api::apps::v1::ReplicaSetCondition {
                type_: "ReplicaFailure".to_owned(),
                status: "True".to_owned(),
                reason: Some("FailedCreate".to_owned()),
                message: Some(message),
                last_transition_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now())),
            });
        }
        let status = ReplicaSetStatus {
            replicas: count(active.len()).unwrap_or(0),
            fully_labeled_replicas: count(labelled.count()),
            ready_replicas: count(waits.len()),
            available_replicas: count(waits.iter().filter(|wait| wait.is_zero()).count()),
            observed_generation: set.metadata.generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
            terminating_replicas: old.terminating_replicas,
        };
        let zero_as_none = |number: Option<i32>| number.filter(|number| *number != 0);
        let same = old.replicas == status.replicas
            && zero_as_none(old.fully_labeled_replicas) == zero_as_none(status.fully_labeled_replicas)
            && zero_as_none(old.ready_replicas) == zero_as_none(status.ready_replicas)
            && zero_as_none(old.available_replicas) == zero_as_none(status.available_replicas)
            && old.observed_generation == status.observed_generation
            && old.conditions.as_ref().map(Vec::len) == status.conditions.as_ref().map(Vec::len);
        if same {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let result = api.replace_status(&set.name_any(), &PostParams::default(), &updated).await;
        // A newer version, or none, is on its way through the cache and brings the key back.
        if is_status(&result, 409) || is_status(&result, 404) {
            return Ok(());
        }
        result?;
        Ok(())
    }
}

fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, "Succeeded" | "Failed")
}

/// How long a ready pod has yet to be ready to count as available; zero if it does.
fn until_available(pod: &Pod, min_ready: Duration) -> Duration {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let since =
        conditions.iter().find(|condition| condition.type_ == "Ready").and_then(|it| it.last_transition_time.clone());
    let since = since.map_or_else(Timestamp::now, |time| time.0);
    let been = Timestamp::now().duration_since(since).as_secs();
    min_ready.saturating_sub(Duration::from_secs(u64::try_from(been).unwrap_or(0)))
}

/// The pod of a template, owned by the replica set.
fn pod_of(set: &ReplicaSet, template: PodTemplateSpec) -> Pod {
    let meta = template.metadata.unwrap_or_default();
    let mut pod = Pod { spec: template.spec, ..Pod::default() };
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod.metadata.namespace = set.namespace();
    pod.metadata.labels = meta.labels;
    pod.metadata.annotations = meta.annotations;
    pod.metadata.finalizers = meta.finalizers;
    pod.meta_mut().owner_references = Some(vec![controller_of(set)]);
    pod
}

/// The pods to delete first: unassigned, pending, not ready, cheap, restarted often, young.
fn surplus(mut pods: Vec<Arc<Pod>>, count: usize) -> Vec<Arc<Pod>> {
    let cost = |pod: &Pod| -> i64 {
        pod.annotations()
            .get("controller.kubernetes.io/pod-deletion-cost")
            .and_then(|cost| cost.parse().ok())
            .unwrap_or(0)
    };
    pods.sort_by_cached_key(|pod| {
        let status = pod.status.as_ref();
        let phase = match status.and_then(|status| status.phase.as_deref()) {
            Some("Pending") | None => 0,
            Some("Unknown") => 1,
            _ => 2,
        };
        let restarts: i32 = status
            .and_then(|status| status.container_statuses.as_ref())
            .into_iter()
            .flatten()
            .map(|it| it.restart_count)
            .sum();
        let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        (
            assigned,
            phase,
            is_pod_ready(pod),
            cost(pod),
            Reverse(restarts),
            Reverse(pod.creation_timestamp().map(|time| time.0)),
        )
    });
    pods.truncate(count);
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::from_value;

    #[test]
    fn what_serves_least_is_deleted_first() {
        let pod = |name: &str, node: Option<&str>, phase: &str, ready: &str, created: &str| -> Arc<Pod> {
            from_value(json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "spec": {"containers": [], "nodeName": node},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
            }))
            .map(Arc::new)
            .unwrap()
        };
        let pods = vec![
            pod("old", Some("n"), "Running", "True", "2026-01-01T00:00:00Z"),
            pod("young", Some("n"), "Running", "True", "2026-01-02T00:00:00Z"),
            pod("unready", Some("n"), "Running", "False", "2026-01-01T00:00:00Z"),
            pod("pending", Some("n"), "Pending", "False", "2026-01-01T00:00:00Z"),
            pod("unassigned", None, "Pending", "False", "2026-01-01T00:00:00Z"),
        ];
        let order: Vec<_> = surplus(pods, 4).iter().map(|pod| pod.name_any()).collect();
        assert_eq!(order, ["unassigned", "pending", "unready", "young"]);
    }

    #[test]
    fn a_pod_is_available_after_min_ready_seconds() {
        let since = Timestamp::from_second(Timestamp::now().as_second() - 10).unwrap();
        let pod: Pod = from_value(json!({"status": {"conditions":
            [{"type": "Ready", "status": "True", "lastTransitionTime": since.to_string()}]}}))
        .unwrap();
        assert!(until_available(&pod, Duration::ZERO).is_zero());
        assert!(until_available(&pod, Duration::from_secs(5)).is_zero());
        assert!(!until_available(&pod, Duration::from_secs(60)).is_zero());
    }
}
