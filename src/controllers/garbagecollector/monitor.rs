//! Metadata watches on everything that can be deleted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::graph::Graph;
use crate::discovery::{Served, served};
use crate::queue::Queue;

/// How often kinds are discovered anew: custom ones come and go.
const REDISCOVER: Duration = Duration::from_secs(30);

/// A kind's key: group, plural.
type Id = (String, String);

/// A watched kind.
struct Kind {
    resource: Arc<ApiResource>,
    namespaced: bool,
    cancel: CancellationToken,
}

/// The kinds that are watched.
pub struct Kinds {
    watched: Mutex<HashMap<Id, Kind>>,
    /// How many first lists are outstanding; `None` before the first discovery.
    pending: watch::Sender<Option<usize>>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self { watched: Mutex::default(), pending: watch::Sender::new(None) }
    }
}

impl Kinds {
    /// Waits until the first list of each kind is in the graph.
    pub async fn synced(&self) {
        // The sender is this object's own, so it can't be closed.
        let _ = self.pending.subscribe().wait_for(|pending| *pending == Some(0)).await;
    }

    /// The resource of a kind, and whether it is namespaced.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<(Arc<ApiResource>, bool)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let watched = self.watched.lock();
        let found = watched.values().find(|it| it.resource.group == group && it.resource.kind == kind)?;
        Some((found.resource.clone(), found.namespaced))
    }
}

/// Watches until cancelled.
pub async fn run(
    client: Client,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<String>,
    kinds: Arc<Kinds>,
    cancel: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    loop {
        match served(&client).await {
            Ok(mut found) => {
                // Events own nothing and expire by themselves.
                found.retain(|it| it.can(&["delete", "list", "watch"]) && it.resource.kind != "Event");
                let mut watched = kinds.watched.lock();
                watched.retain(|id, kind| {
                    let served = found.iter().any(|it| id.0 == it.resource.group && id.1 == it.resource.plural);
                    if !served {
                        kind.cancel.cancel();
                    }
                    served
                });
                for Served { resource, namespaced, .. } in found {
                    let id = (resource.group.clone(), resource.plural.clone());
                    if watched.contains_key(&id) {
                        continue;
                    }
                    let resource = Arc::new(resource);
                    let token = cancel.child_token();
                    kinds.pending.send_modify(|pending| *pending = Some(pending.unwrap_or(0) + 1));
                    tasks.spawn(follow(
                        client.clone(),
                        resource.clone(),
                        graph.clone(),
                        queue.clone(),
                        kinds.clone(),
                        token.clone(),
                    ));
                    watched.insert(id, Kind { resource, namespaced, cancel: token });
                }
            }
            Err(error) => tracing::warn!(%error, "cannot discover resources; it is tried again"),
        }
        let wait = if kinds.pending.borrow().is_none() { Duration::from_secs(1) } else { REDISCOVER };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn follow(
    client: Client,
    resource: Arc<ApiResource>,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<String>,
    kinds: Arc<Kinds>,
    cancel: CancellationToken,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, resource.as_ref());
    let mut events = watcher(api, watcher::Config::default().any_semantic()).default_backoff().boxed();
    let mut first = true;
    // Uids seen in a list under way: what the graph has beyond them is gone.
    let mut listed = Vec::new();
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => break,
            event = events.next() => event,
        };
        let affected = match event {
            None => break,
            Some(Err(error)) => {
                tracing::debug!(kind = resource.kind, %error, "metadata watch failed; it is tried again");
                continue;
            }
            Some(Ok(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(watcher::Event::InitApply(object))) => {
                listed.extend(object.uid());
                graph.lock().apply(&resource, &object)
            }
            Some(Ok(watcher::Event::InitDone)) => {
                let mut graph = graph.lock();
                let mut gone = graph.uids_of(&resource);
                listed.drain(..).for_each(|uid| {
                    gone.remove(&uid);
                });
                if std::mem::take(&mut first) {
                    kinds.pending.send_modify(|pending| *pending = pending.map(|count| count.saturating_sub(1)));
                }
                gone.iter().flat_map(|uid| graph.remove(uid)).collect()
            }
            Some(Ok(watcher::Event::Apply(object))) => graph.lock().apply(&resource, &object),
            Some(Ok(watcher::Event::Delete(object))) => {
                object.uid().map(|uid| graph.lock().remove(&uid)).unwrap_or_default()
            }
        };
        affected.into_iter().for_each(|uid| queue.add(uid));
    }
    if first {
        kinds.pending.send_modify(|pending| *pending = pending.map(|count| count.saturating_sub(1)));
    }
    let mut graph = graph.lock();
    for uid in graph.uids_of(&resource) {
        graph.remove(&uid);
    }
}
