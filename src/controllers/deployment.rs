//! Rolls out deployments through replica sets: one per version of the pod template.

mod progress;
mod rolling;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use k3s_client::Informer;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::event::Events;
use crate::owner::{controller, controller_of, is_controlled_by, selects};
use crate::queue::{Key, Queue};
use crate::{Context, Error, each_change, is_status};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a deployment that are not handed on to its replica sets.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<Key> = Queue::default();
    let (deployments, sets) = (informers.of::<Deployment>(), informers.of::<ReplicaSet>());
    let client = context.client.clone();
    let controller = Arc::new(Controller {
        events: Events::new(client.clone(), "deployment-controller"),
        client,
        deployments: deployments.clone(),
        sets: sets.clone(),
        queue: queue.clone(),
    });
    let (of_deployment, of_set) = (queue.clone(), queue.clone());
    tokio::join!(
        each_change(deployments.clone(), cancel.clone(), |deployment| of_deployment.add(Key::of(deployment))),
        each_change(sets.clone(), cancel.clone(), |set| {
            keys_of(set, &deployments).into_iter().for_each(|key| of_set.add(key));
        }),
        async {
            deployments.synced().await;
            sets.synced().await;
            queue.run("deployment", 4, cancel.clone(), |key| controller.clone().sync(key)).await;
        }
    );
}

fn keys_of(set: &ReplicaSet, deployments: &Informer<Deployment>) -> Vec<Key> {
    match controller(set) {
        Some(owner) if owner.kind == "Deployment" => vec![Key::beside(set, &owner.name)],
        Some(_) => Vec::new(),
        None => deployments
            .list()
            .iter()
            .filter(|it| {
                it.namespace() == set.namespace() && selects(&it.spec.clone().unwrap_or_default().selector, set)
            })
            .map(|it| Key::of(&**it))
            .collect(),
    }
}

struct Controller {
    client: Client,
    events: Events,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    queue: Queue<Key>,
}

/// A deployment's replica sets: the one of its present template, and the others, oldest first.
struct Sets {
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn revision(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

impl Controller {
    async fn sync(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(Some(&key.namespace), &key.name) else { return Ok(()) };
        let spec = deployment.spec.clone().unwrap_or_default();
        let mut sets = self.claim(&deployment).await?;
        if deployment.metadata.deletion_timestamp.is_some() {
            return progress::update(&self.client, &self.queue, &deployment, &sets).await;
        }
        if spec.paused != Some(true) {
            self.ensure_new(&deployment, &mut sets).await?;
            let recreate = spec.strategy.as_ref().and_then(|it| it.type_.as_deref()) == Some("Recreate");
            for (set, count) in rolling::plan(&deployment, &sets, recreate) {
                self.scale(&deployment, &set, count).await?;
            }
            self.clean_up(&deployment, &sets).await?;
        } else {
            for (set, count) in rolling::proportional(&deployment, &sets) {
                self.scale(&deployment, &set, count).await?;
            }
        }
        progress::update(&self.client, &self.queue, &deployment, &sets).await
    }

    /// The deployment's replica sets; orphans that match become its own.
    async fn claim(&self, deployment: &Deployment) -> Result<Sets, Error> {
        let spec = deployment.spec.clone().unwrap_or_default();
        let api: Api<ReplicaSet> = self.api(deployment);
        let mut own = Vec::new();
        for set in self.sets.list().into_iter().filter(|set| set.namespace() == deployment.namespace()) {
            let matches = selects(&spec.selector, &*set);
            if is_controlled_by(&*set, deployment) {
                own.push(set);
            } else if matches && controller(&*set).is_none() && set.metadata.deletion_timestamp.is_none() {
                let patch = json!({"metadata": {"uid": set.uid(), "ownerReferences": [controller_of(deployment)]}});
                let adopted = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await;
                if !is_status(&adopted, 404) && !is_status(&adopted, 422) {
                    own.push(Arc::new(adopted?));
                }
            }
        }
        own.sort_by_key(|set| (set.creation_timestamp().map(|time| time.0), set.name_any()));
        let new = own
            .iter()
            .position(|set| template::is_same(&spec.template, set.spec.as_ref().and_then(|it| it.template.as_ref())));
        let new = new.map(|index| own.remove(index));
        Ok(Sets { new, old: own })
    }

    fn api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default())
    }

    /// Makes the replica set of the present template if there is none, and keeps its annotations right.
    async fn ensure_new(&self, deployment: &Deployment, sets: &mut Sets) -> Result<(), Error> {
        let newest = sets.old.iter().map(|set| revision(set.annotations())).max().unwrap_or(0) + 1;
        let mut annotations: BTreeMap<String, String> = deployment
            .annotations()
            .iter()
            .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        match &sets.new {
            Some(set) => {
                let current = revision(set.annotations());
                let revision = current.max(newest);
                annotations.insert(REVISION.to_owned(), revision.to_string());
                if current != 0 && current != revision {
                    let past = set.annotations().get(REVISION_HISTORY).map_or(String::new(), |past| format!("{past},"));
                    annotations.insert(REVISION_HISTORY.to_owned(), format!("{past}{current}"));
                }
                let missing: BTreeMap<_, _> =
                    annotations.iter().filter(|(key, value)| set.annotations().get(*key) != Some(value)).collect();
                let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
                let other_min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds) != min_ready;
                if !missing.is_empty() || other_min_ready {
                    let patch = json!({"metadata": {"annotations": missing}, "spec": {"minReadySeconds": min_ready}});
                    let api = self.api(deployment);
                    let patched = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
                    sets.new = Some(Arc::new(patched));
                }
                self.set_revision(deployment, revision).await
            }
            None => {
                annotations.insert(REVISION.to_owned(), newest.to_string());
                let made = self.make(deployment, sets, annotations).await?;
                sets.new = made;
                self.set_revision(deployment, newest).await
            }
        }
    }

    async fn make(
        &self,
        deployment: &Deployment,
        sets: &Sets,
        mut annotations: BTreeMap<String, String>,
    ) -> Result<Option<Arc<ReplicaSet>>, Error> {
        let spec = deployment.spec.clone().unwrap_or_default();
        let (hash, template, selector) = template::for_replica_set(deployment)?;
        let count = rolling::first_size(deployment, sets);
        annotations.extend(rolling::size_annotations(deployment));
        let mut set = ReplicaSet {
            spec: Some(ReplicaSetSpec {
                replicas: Some(count),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template.clone()),
            }),
            ..ReplicaSet::default()
        };
        set.metadata.name = Some(format!("{}-{hash}", deployment.name_any()));
        set.metadata.namespace = deployment.namespace();
        set.metadata.labels = template.metadata.and_then(|meta| meta.labels);
        set.metadata.annotations = Some(annotations);
        set.metadata.owner_references = Some(vec![controller_of(deployment)]);
        let api = self.api(deployment);
        match api.create(&PostParams::default(), &set).await {
            Ok(set) => {
                let note = format!("Scaled up replica set {} from 0 to {count}", set.name_any());
                self.events.normal(deployment, "ScalingReplicaSet", "ScaleReplicaSet", note).await;
                Ok(Some(Arc::new(set)))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Made a moment ago, and the cache does not show it yet; or the hash fell on another template.
                let name = set.name_any();
                let have = api.get(&name).await?;
                let own = have.spec.as_ref().and_then(|spec| spec.template.as_ref());
                if is_controlled_by(&have, deployment) && template::is_same(&spec.template, own) {
                    return Ok(Some(Arc::new(have)));
                }
                let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0) + 1;
                let mut updated = deployment.clone();
                updated.status.get_or_insert_default().collision_count = Some(collisions);
                let deployments: Api<Deployment> =
                    Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
                deployments.replace_status(&deployment.name_any(), &PostParams::default(), &updated).await?;
                Err(Error::Waiting(format!("another name than {name} for the new replica set")))
            }
            Err(error) => {
                let note = format!("Failed to create new replica set {:?}: {error}", set.name_any());
                self.events.warning(deployment, "ReplicaSetCreateError", "CreateReplicaSet", note).await;
                Err(error.into())
            }
        }
    }

    async fn set_revision(&self, deployment: &Deployment, revision: i64) -> Result<(), Error> {
        if deployment.annotations().get(REVISION) == Some(&revision.to_string()) {
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        let mut updated = deployment.clone();
        updated.annotations_mut().insert(REVISION.to_owned(), revision.to_string());
        let replaced = api.replace(&deployment.name_any(), &PostParams::default(), &updated).await;
        // Newer than the cache: its change brings the key back.
        if is_status(&replaced, 409) || is_status(&replaced, 404) {
            return Ok(());
        }
        replaced?;
        Ok(())
    }

    async fn scale(&self, deployment: &Deployment, set: &ReplicaSet, count: i32) -> Result<(), Error> {
        let sizes = rolling::size_annotations(deployment);
        let annotated = sizes.iter().all(|(key, value)| set.annotations().get(key) == Some(value));
        let have = replicas(set);
        if have == count && annotated {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": set.resource_version(), "annotations": sizes},
            "spec": {"replicas": count},
        });
        let patched = self.api(deployment).patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        // Newer than the cache: its change brings the key back.
        if is_status(&patched, 409) || is_status(&patched, 404) {
            return Ok(());
        }
        patched?;
        if have != count {
            let way = if count > have { "up" } else { "down" };
            let note = format!("Scaled {way} replica set {} from {have} to {count}", set.name_any());
            self.events.normal(deployment, "ScalingReplicaSet", "ScaleReplicaSet", note).await;
        }
        Ok(())
    }

    /// Deletes empty old replica sets beyond the history limit, oldest revision first.
    async fn clean_up(&self, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
        let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let mut empty: Vec<_> = sets
            .old
            .iter()
            .filter(|set| {
                let status = set.status.clone().unwrap_or_default();
                replicas(set) == 0
                    && status.replicas == 0
                    && status.observed_generation >= set.metadata.generation
                    && set.metadata.deletion_timestamp.is_none()
            })
            .collect();
        empty.sort_by_key(|set| revision(set.annotations()));
        let surplus = sets.old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for set in empty.into_iter().take(surplus) {
            let deleted = self.api(deployment).delete(&set.name_any(), &DeleteParams::background()).await;
            if !is_status(&deleted, 404) {
                deleted?;
            }
        }
        Ok(())
    }
}
