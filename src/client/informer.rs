//! Shared informers: one watch and one typed cache per kind for all components of a process.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What can be cached: any typed Kubernetes resource.
pub trait Resource:
    kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Resource for K where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// What happened to an object of a kind.
#[derive(Debug)]
pub enum Change<K> {
    /// It was created or changed; this is how it is now.
    Applied(Arc<K>),
    /// It is gone; this is how it was last.
    Deleted(Arc<K>),
    /// The cache was filled anew, or the subscriber was too slow and missed changes: look at the whole list.
    Relisted,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Change::Applied(object) => Change::Applied(object.clone()),
            Change::Deleted(object) => Change::Deleted(object.clone()),
            Change::Relisted => Change::Relisted,
        }
    }
}

/// Changes from the moment of subscription on.
pub struct Changes<K>(broadcast::Receiver<Change<K>>);

impl<K> Changes<K> {
    /// The next change; `None` when the informers have ended.
    pub async fn next(&mut self) -> Option<Change<K>> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Relisted),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Change<K>> + Send
    where
        K: Send + Sync + 'static,
    {
        futures::stream::unfold(self, |mut changes| async move { changes.next().await.map(|change| (change, changes)) })
    }
}

/// The cache of one kind.
pub struct Informer<K: kube::Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    changes: broadcast::Sender<Change<K>>,
    /// Whether the first list is in the store. The store's own signal wakes only the last of several waiters.
    synced: watch::Receiver<bool>,
}

impl<K: kube::Resource<DynamicType = ()> + 'static> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone(), synced: self.synced.clone() }
    }
}

impl<K: Resource> Informer<K> {
    /// Waits until the first list is in the cache.
    pub async fn synced(&self) {
        if self.synced.clone().wait_for(|synced| *synced).await.is_err() {
            // The informers have ended, so there will be no list; nor will there be changes.
            std::future::pending::<()>().await;
        }
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// One object; `namespace` is `None` for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let mut key = ObjectRef::<K>::new(name);
        if let Some(namespace) = namespace {
            key = key.within(namespace);
        }
        self.store.get(&key)
    }

    /// Changes from now on. The cache is updated before a change is announced.
    pub fn subscribe(&self) -> Changes<K> {
        Changes(self.changes.subscribe())
    }
}

/// Informers by kind, started on first use. Clones share them; they end when the last clone is dropped.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    kinds: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
    cancel: CancellationToken,
    _guard: Arc<DropGuard>,
}

impl Informers {
    /// Informers that list and watch with `client`. Nothing is watched until it is asked for.
    pub fn new(client: Client) -> Self {
        let cancel = CancellationToken::new();
        let guard = Arc::new(cancel.clone().drop_guard());
        Self { client, kinds: Arc::default(), cancel, _guard: guard }
    }

    /// The client they watch with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of a kind, over all namespaces.
    pub fn of<K: Resource>(&self) -> Informer<K> {
        self.of_selected("", "")
    }

    /// The informer of a kind restricted by selectors. The selectors of the first call for a kind count: a process
    /// watches a kind once.
    pub fn of_selected<K: Resource>(&self, labels: &str, fields: &str) -> Informer<K> {
        let mut kinds = self.kinds.lock();
        let informer = kinds
            .entry(TypeId::of::<K>())
            .or_insert_with(|| Box::new(start::<K>(self.client.clone(), labels, fields, self.cancel.clone())));
        match informer.downcast_ref::<Informer<K>>() {
            Some(informer) => informer.clone(),
            None => unreachable!("the map is keyed by the informer's type"),
        }
    }
}

/// How many changes a subscriber may be behind before it has to look at the whole list.
const BACKLOG: usize = 1024;

fn start<K: Resource>(client: Client, labels: &str, fields: &str, cancel: CancellationToken) -> Informer<K> {
    let (store, mut writer) = store::<K>();
    let (changes, _) = broadcast::channel(BACKLOG);
    let (synced, is_synced) = watch::channel(false);
    let informer = Informer { store, changes: changes.clone(), synced: is_synced };
    let mut config = watcher::Config::default().any_semantic();
    if !labels.is_empty() {
        config = config.labels(labels);
    }
    if !fields.is_empty() {
        config = config.fields(fields);
    }
    let kind = K::kind(&()).into_owned();
    tokio::spawn(async move {
        let mut events = watcher(Api::<K>::all(client), config)
            .default_backoff()
            .inspect_err(|error| tracing::warn!(kind, %error, "watch failed; it is tried again"))
            .boxed();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            let Ok(event) = event else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            writer.apply_watcher_event(&event);
            let change = match event {
                watcher::Event::Apply(object) => Change::Applied(Arc::new(object)),
                watcher::Event::Delete(object) => Change::Deleted(Arc::new(object)),
                watcher::Event::InitDone => {
                    synced.send_replace(true);
                    Change::Relisted
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => continue,
            };
            // Nobody subscribed is no error.
            let _ = changes.send(change);
        }
    });
    informer
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::Full;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    /// An API that has one pod and then one change, and answers lists only when it is let.
    fn client(gate: watch::Receiver<bool>) -> Client {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let mut gate = gate.clone();
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let pod = |version: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n", "resourceVersion": version}});
                let body = if !query.contains("watch=true") {
                    let _ = gate.wait_for(|open| *open).await;
                    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [pod("1")]})
                } else if query.contains("resourceVersion=1") {
                    json!({"type": "MODIFIED", "object": pod("2")})
                } else {
                    std::future::pending().await
                };
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from(format!("{body}\n")))))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn all_waiters_see_the_first_list_and_subscribers_the_changes() {
        let (open, gate) = watch::channel(false);
        let informers = Informers::new(client(gate));
        let pods = informers.of::<Pod>();
        let mut changes = pods.subscribe();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let pods = informers.of::<Pod>();
                tokio::spawn(async move { pods.synced().await })
            })
            .collect();
        tokio::task::yield_now().await;
        open.send_replace(true);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(pods.list().len(), 1);
        assert!(matches!(changes.next().await, Some(Change::Relisted)));
        let Some(Change::Applied(pod)) = changes.next().await else { panic!("a change was expected") };
        assert_eq!(pod.metadata.resource_version.as_deref(), Some("2"));
        assert!(pods.get(Some("n"), "a").is_some());
        assert!(pods.get(Some("other"), "a").is_none());
    }
}
