//! What is stored: a watch cache per resource over the datastore, and the writes.

mod cache;
pub(crate) mod convert;
mod custom;
mod entry;
mod error;
mod feed;
pub mod known;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k3s_api::resource::{self, Resource};
use k3s_kine::{Datastore, Error as DatastoreError, KeyValue, Range, Revision, Watch};
use parking_lot::RwLock;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use cache::{Cache, Change, Listing, Outdated};
pub use custom::Custom;
pub(crate) use custom::condition;
pub use entry::Entry;
pub use error::Error;
use feed::Feed;

use crate::encryption::{Encryption, Store};

/// How long a read waits for the cache to reach the revision it needs.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the feed may lag before it is asked where it is.
const PROGRESS_DELAY: Duration = Duration::from_millis(10);
/// Objects read from the datastore at a time when a cache is loaded.
const LOAD_PAGE: i64 = 500;

/// A resource's row: a built-in one, or one made from a `CustomResourceDefinition`.
#[derive(Debug, Clone)]
pub enum Row {
    Builtin(&'static Resource),
    Custom(Arc<Custom>),
}

impl Deref for Row {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            Self::Builtin(row) => row,
            Self::Custom(row) => &row.resource,
        }
    }
}

/// How a write ended that was to happen only if the key was in a certain state.
#[derive(Debug)]
pub enum Outcome {
    /// It is on disk.
    Done(Arc<Entry>),
    /// The key was in another state: this one.
    Lost(Option<Arc<Entry>>),
}

/// The stored objects.
pub struct Registry {
    datastore: Store,
    feed: Arc<Feed>,
    custom: RwLock<Arc<[Row]>>,
    task: AbortHandle,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    /// Begins to follow the datastore, whose values are encrypted as `encryption` says. Resources are read when they are first asked for.
    ///
    /// # Errors
    /// If the datastore's revision cannot be read.
    pub async fn open(datastore: Arc<dyn Datastore>, encryption: Arc<Encryption>) -> Result<Self, Error> {
        let datastore = Store::new(datastore, encryption);
        let feed = Arc::new(Feed::new(datastore.current_revision().await?));
        let task = tokio::spawn(Arc::clone(&feed).run(datastore.clone())).abort_handle();
        Ok(Self { datastore, feed, custom: RwLock::new(Arc::new([])), task })
    }

    /// The revision up to which every cache is complete.
    pub fn revision(&self) -> Revision {
        *self.feed.revision.borrow()
    }

    /// The cache of the keys with that prefix, read from the datastore if this is the first time.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub async fn cache_of_prefix(&self, prefix: &str) -> Result<Arc<Cache>, Error> {
        let known = self.feed.caches.read().get(prefix).cloned();
        let cache = known.unwrap_or_else(|| {
            let mut caches = self.feed.caches.write();
            // The feed keeps events for it from now on; what is read next is therefore never older than those.
            Arc::clone(caches.entry(prefix.into()).or_insert_with(|| Arc::new(Cache::new(prefix))))
        });
        cache.loaded.get_or_try_init(|| self.load(&cache)).await?;
        Ok(cache)
    }

    /// The cache of a resource, read from the datastore if this is the first time. What it holds may be older than
    /// what has been acknowledged to clients by moments: see [`Registry::catch_up`].
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub async fn cache(&self, resource: &Resource) -> Result<Arc<Cache>, Error> {
        self.cache_of_prefix(&prefix(resource)).await
    }

    /// How many objects of a resource there are, as far as they have been read.
    pub fn known_objects(&self, resource: &Resource) -> usize {
        self.feed.caches.read().get(prefix(resource).as_str()).map_or(0, |cache| cache.len())
    }

    /// The rows of all resources that are served, in the order of discovery.
    pub fn resources(&self) -> Vec<Row> {
        resource::builtin().iter().map(Row::Builtin).chain(self.custom.read().iter().cloned()).collect()
    }

    /// The row of a resource.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Row> {
        if let Some(row) = resource::find(group, version, plural) {
            return Some(Row::Builtin(row));
        }
        let rows = Arc::clone(&self.custom.read());
        rows.iter().find(|row| row.plural == plural && row.group == group && row.version == version).cloned()
    }

    /// The other versions of the same objects, in the order of discovery.
    pub(crate) fn equivalents(&self, resource: &Resource) -> Vec<Row> {
        let is_other = |row: &Resource| {
            row.storage_prefix == resource.storage_prefix
                && (row.version != resource.version || row.group != resource.group)
        };
        let builtin = resource::builtin().iter().filter(|row| is_other(row)).map(Row::Builtin);
        let custom = Arc::clone(&self.custom.read());
        builtin.chain(custom.iter().filter(|row| is_other(row)).cloned()).collect()
    }

    /// Whether any resource of that version is served here.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        let is_it = |row: &Resource| row.group == group && row.version == version;
        resource::builtin().iter().any(is_it) || self.custom.read().iter().any(|row| is_it(row))
    }

    /// Serves the resources that these definitions define, and no other custom ones.
    pub(crate) fn serve_custom(&self, definitions: &[(Revision, serde_json::Value)]) {
        let known = Arc::clone(&self.custom.read());
        let mut rows = Vec::new();
        for (revision, definition) in definitions {
            for custom in custom::rows(definition, *revision) {
                // A row that is in use stays what it is as long as its definition does.
                let same = known.iter().find(|row| matches!(row, Row::Custom(row) if row.is_same(&custom))).cloned();
                rows.push(same.unwrap_or_else(|| Row::Custom(Arc::new(custom))));
            }
        }
        *self.custom.write() = rows.into();
    }

    /// An object, as new as anything acknowledged before this call.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Arc<Entry>>, Error> {
        let cache = self.cache(resource).await?;
        self.catch_up().await?;
        Ok(cache.get(&key(namespace, name)))
    }

    /// The objects of a namespace (empty: of all), as new as anything acknowledged before this call.
    ///
    /// # Errors
    /// If the datastore cannot be read.
    pub async fn list(&self, resource: &Resource, namespace: &str) -> Result<Listing, Error> {
        let cache = self.cache(resource).await?;
        let seen = self.catch_up().await?;
        let listing = cache.list(namespace);
        Ok(Listing { revision: listing.revision.max(seen), ..listing })
    }

    /// Stores an object that is not there yet. `lifetime` is in seconds; 0: for ever.
    ///
    /// # Errors
    /// If the datastore cannot write.
    pub async fn create(
        &self,
        resource: &Resource,
        key: &str,
        stored: Vec<u8>,
        lifetime: i64,
    ) -> Result<Outcome, Error> {
        let stored = Bytes::from(stored);
        let written = self.datastore.create(full_key(resource, key), stored.clone(), lifetime).await;
        self.outcome(resource, key, &stored, written)
    }

    /// Stores a new version of an object, if it is still at `expected`.
    ///
    /// # Errors
    /// If the datastore cannot write.
    pub async fn update(
        &self,
        resource: &Resource,
        key: &str,
        expected: Revision,
        stored: Vec<u8>,
        lifetime: i64,
    ) -> Result<Outcome, Error> {
        let stored = Bytes::from(stored);
        let written = self.datastore.update(full_key(resource, key), expected, stored.clone(), lifetime).await;
        self.outcome(resource, key, &stored, written)
    }

    /// Removes an object, if it is still that version. It comes back as it was, at the revision of the deletion.
    ///
    /// # Errors
    /// If the datastore cannot write.
    pub async fn delete(&self, resource: &Resource, entry: &Entry) -> Result<Outcome, Error> {
        match self.datastore.delete(full_key(resource, entry.key()), entry.revision()).await {
            Ok(revision) => Ok(Outcome::Done(Arc::new(entry.at(revision)))),
            lost => self.outcome(resource, entry.key(), b"", lost),
        }
    }

    /// Whether an object should be written even if nothing changes, since it is not encrypted as it should be.
    pub(crate) fn is_stale(&self, resource: &Resource, entry: &Entry) -> bool {
        self.datastore.is_stale(&full_key(resource, entry.key()), entry.revision())
    }

    fn outcome(
        &self,
        resource: &Resource,
        key: &str,
        stored: &[u8],
        written: Result<Revision, Error>,
    ) -> Result<Outcome, Error> {
        match written {
            Ok(revision) => Ok(Outcome::Done(Arc::new(Entry::decode(key.into(), revision, stored)?))),
            Err(Error::Datastore(DatastoreError::Conflict { current, .. })) => {
                Ok(Outcome::Lost(current.map(|kv| self.entry(resource, &kv)).transpose()?))
            }
            Err(error) => Err(error),
        }
    }

    /// An object as the datastore returned it.
    pub(crate) fn entry(&self, resource: &Resource, kv: &KeyValue) -> Result<Arc<Entry>, Error> {
        let key = String::from_utf8_lossy(kv.key.get(prefix(resource).len()..).unwrap_or_default());
        Entry::decode(key.into(), kv.mod_revision, &kv.value).map(Arc::new)
    }

    /// The objects of a namespace (empty: of all) from key `start` on, as they were at `revision`.
    pub(crate) async fn range_at(
        &self,
        resource: &Resource,
        namespace: &str,
        start: &str,
        limit: usize,
        revision: Revision,
    ) -> Result<Range, Error> {
        let within = format!("{}{}", prefix(resource), key(namespace, ""));
        let first = format!("{}{start}", prefix(resource)).max(within.clone());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.datastore.range(first.into(), after_prefix(&within).into(), limit, revision).await
    }

    /// The changes of a resource after `revision`, from the datastore's own history.
    pub(crate) async fn history(&self, resource: &Resource, after: Revision) -> Result<Watch, Error> {
        let prefix = prefix(resource);
        let end = after_prefix(&prefix);
        self.datastore.watch(prefix.into(), end.into(), after).await
    }

    async fn load(&self, cache: &Cache) -> Result<(), Error> {
        let end = Bytes::from(after_prefix(cache.prefix()));
        let (mut start, mut revision, mut kvs) = (Bytes::from(cache.prefix().to_owned()), 0, Vec::new());
        loop {
            let range = self.datastore.range(start, end.clone(), LOAD_PAGE, revision).await?;
            if revision == 0 {
                revision = range.revision;
            }
            kvs.extend(range.kvs);
            match kvs.last() {
                Some(last) if range.more => start = [&last.key[..], b"\0"].concat().into(),
                _ => break,
            }
        }
        tracing::debug!(prefix = cache.prefix(), objects = kvs.len(), revision, "read into the watch cache");
        cache.load(revision, kvs)
    }

    /// Waits until every cache has seen all that was acknowledged before this call.
    ///
    /// # Errors
    /// If the datastore cannot say where it is, or the caches do not get there in time.
    pub async fn catch_up(&self) -> Result<Revision, Error> {
        let newest = self.datastore.current_revision().await?;
        self.wait_for(newest).await
    }

    /// Waits until every cache has seen `revision`, and returns the revision they have seen then.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if that does not happen within three seconds.
    pub async fn wait_for(&self, revision: Revision) -> Result<Revision, Error> {
        let mut seen = self.feed.revision.subscribe();
        let current = *seen.borrow_and_update();
        if current >= revision {
            return Ok(current);
        }
        // Revisions without a change of their own (a compaction) come with the next progress only.
        if timeout(PROGRESS_DELAY, seen.wait_for(|current| *current >= revision)).await.is_err() {
            self.datastore.request_progress().await?;
        }
        match timeout(FRESHNESS_TIMEOUT, seen.wait_for(|current| *current >= revision)).await {
            Ok(Ok(current)) => Ok(*current),
            _ => Err(Error::TooLarge { asked: revision, current: self.revision() }),
        }
    }
}

/// Where a resource's objects lie in the datastore.
fn prefix(resource: &Resource) -> String {
    format!("/registry/{}/", resource.storage_prefix)
}

/// `namespace/name`, or the name alone where there is no namespace.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn full_key(resource: &Resource, key: &str) -> Bytes {
    format!("/registry/{}/{key}", resource.storage_prefix).into()
}

/// The first key after all that begin with `prefix`, which ends with a slash.
fn after_prefix(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
