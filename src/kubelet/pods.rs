//! All pods of the node: an actor for each, and the removal of what belongs to none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k3s_client::Change;
use k3s_cri::ContainerEvent;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::labels;
use crate::pod::actor::{Actor, Desired};
use crate::pod::admission;
use crate::volume;

/// The dispatcher's end of an actor.
struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

struct Pods {
    ctx: Arc<Context>,
    cancel: CancellationToken,
    /// By uid: a pod deleted by force may be followed by another of its name while its containers still stop.
    handles: HashMap<String, Handle>,
    actors: JoinSet<String>,
}

/// How often the runtime is searched for what belongs to no pod.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Runs the pods until `cancel`; then awaits their actors, which leave everything running.
pub(crate) async fn run(ctx: Arc<Context>, cancel: &CancellationToken) {
    let mut pods = Pods { ctx: ctx.clone(), cancel: cancel.clone(), handles: HashMap::new(), actors: JoinSet::new() };
    let mut changes = ctx.pods.subscribe();
    let mut events = ctx.runtime.events();
    if cancel.run_until_cancelled(ctx.pods.synced()).await.is_none() {
        return;
    }
    pods.relist();
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            change = changes.next() => match change {
                Some(Change::Applied(pod)) => pods.apply(pod),
                Some(Change::Deleted(pod)) => pods.delete(pod),
                Some(Change::Relisted) => pods.relist(),
                None => break,
            },
            event = events.recv() => match event {
                Ok(event) => pods.wake(&event),
                Err(RecvError::Lagged(_)) => pods.wake_all(),
                // The runtime has ended; so will everything else.
                Err(RecvError::Closed) => break,
            },
            Some(ended) = pods.actors.join_next() => pods.ended(ended),
            _ = housekeeping.tick() => remove_orphans(&pods).await,
        }
    }
    cancel.cancelled().await;
    while pods.actors.join_next().await.is_some() {}
}

impl Pods {
    fn apply(&mut self, pod: Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if let Some(handle) = self.handles.get(&uid) {
            handle.desired.send_replace(Desired::Present(pod));
            return;
        }
        let refused = admission::admit(&self.ctx, &pod).err();
        if let Some((reason, message)) = &refused {
            tracing::warn!(pod = pod.metadata.name, reason, message, "pod refused");
        }
        self.spawn(uid, Desired::Present(pod), refused);
    }

    fn spawn(&mut self, uid: String, desired: Desired, refused: Option<(String, String)>) {
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let actor = Actor::new(self.ctx.clone(), receiver, wake.clone(), refused);
        let cancel = self.cancel.clone();
        self.handles.insert(uid.clone(), Handle { desired: sender, wake });
        self.actors.spawn(async move {
            actor.run(cancel).await;
            uid
        });
    }

    fn delete(&mut self, pod: Arc<Pod>) {
        if let Some(handle) = pod.metadata.uid.as_ref().and_then(|uid| self.handles.get(uid)) {
            handle.desired.send_replace(Desired::Gone(pod));
        }
    }

    /// Compares all that is known with all that there is.
    fn relist(&mut self) {
        let present = self.ctx.pods.list();
        let uids: HashSet<&str> = present.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        for (_, handle) in self.handles.iter().filter(|(uid, _)| !uids.contains(uid.as_str())) {
            handle.desired.send_modify(|desired| {
                if let Desired::Present(pod) = desired {
                    *desired = Desired::Gone(pod.clone());
                }
            });
        }
        for pod in present {
            self.apply(pod);
        }
    }

    fn wake(&self, event: &ContainerEvent) {
        if let Some(handle) = self.handles.get(&event.pod_uid) {
            handle.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for handle in self.handles.values() {
            handle.wake.notify_one();
        }
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.handles.remove(&uid);
            }
            Err(error) => {
                // A panic is a bug; the pod must not be lost for it.
                tracing::error!(%error, "actor of a pod ended early; it is started anew");
                self.handles.retain(|_, handle| handle.desired.receiver_count() > 0);
                self.relist();
            }
        }
    }
}

/// Stops and removes sandboxes and volumes of pods that neither the API nor an actor knows.
async fn remove_orphans(pods: &Pods) {
    let ctx = &pods.ctx;
    let known = ctx.pods.list();
    let known: HashSet<&str> = known.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
    let orphan = |uid: &str| !known.contains(uid) && !pods.handles.contains_key(uid);
    remove_orphaned_sandboxes(ctx, orphan).await;
    let folders = match std::fs::read_dir(ctx.config.root_dir.join("pods")) {
        Ok(folders) => folders,
        Err(error) => {
            tracing::warn!(%error, "cannot list folders of pods");
            return;
        }
    };
    for folder in folders.flatten().filter(|folder| folder.file_name().to_str().is_some_and(orphan)) {
        if let Err(error) = volume::tear_down(folder.path()).await {
            tracing::warn!(%error, "cannot remove volumes of a pod that is gone");
        }
    }
    let logs = std::fs::read_dir(&ctx.config.pod_log_dir).into_iter().flatten().flatten();
    for folder in logs.filter(|folder| {
        let name = folder.file_name();
        name.to_str().and_then(|name| name.rsplit_once('_')).is_some_and(|(_, uid)| orphan(uid))
    }) {
        if let Err(error) = std::fs::remove_dir_all(folder.path()) {
            tracing::warn!(path = %folder.path().display(), %error, "cannot remove logs of a pod that is gone");
        }
    }
}

async fn remove_orphaned_sandboxes(ctx: &Arc<Context>, orphan: impl Fn(&str) -> bool) {
    let (sandboxes, containers) = match tokio::join!(ctx.runtime.list_pod_sandboxes(), ctx.runtime.list_containers()) {
        (Ok(sandboxes), Ok(containers)) => (sandboxes, containers),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "cannot ask the runtime for what belongs to no pod");
            return;
        }
    };
    for sandbox in sandboxes.into_iter().filter(|sandbox| orphan(&sandbox.uid)) {
        tracing::info!(sandbox = sandbox.id, pod = sandbox.name, "removing sandbox of a pod that is gone");
        let ctx = ctx.clone();
        let own: Vec<_> = containers.iter().filter(|container| container.sandbox_id == sandbox.id).collect();
        let stops = own.into_iter().map(|container| {
            let grace = container.annotations.get(labels::GRACE_PERIOD).and_then(|grace| grace.parse().ok());
            ctx.runtime.stop_container(&container.id, Duration::from_secs(grace.unwrap_or(30)))
        });
        for stopped in futures::future::join_all(stops).await {
            if let Err(error) = stopped {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot stop container of a pod that is gone");
            }
        }
        let removed = async {
            ctx.runtime.stop_pod_sandbox(&sandbox.id).await?;
            ctx.runtime.remove_pod_sandbox(&sandbox.id).await
        };
        if let Err(error) = removed.await {
            tracing::warn!(sandbox = sandbox.id, %error, "cannot remove sandbox of a pod that is gone");
        }
    }
}
