//! What is stored: a watch cache per resource over the datastore, and the writes.

mod cache;
mod entry;
mod error;
mod feed;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{Datastore, Revision};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use cache::{Cache, Change, Listing, Outdated};
pub use entry::Entry;
pub use error::Error;
use feed::Feed;

/// How long a read waits for the cache to reach the revision it needs.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// Objects read from the datastore at a time when a cache is loaded.
const LOAD_PAGE: i64 = 500;

/// The stored objects.
pub struct Registry {
    datastore: Arc<dyn Datastore>,
    feed: Arc<Feed>,
    task: AbortHandle,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    /// Begins to follow the datastore. Resources are read when they are first asked for.
    ///
    /// # Errors
    /// If the datastore's revision cannot be read.
    pub async fn open(datastore: Arc<dyn Datastore>) -> Result<Self, Error> {
        let feed = Arc::new(Feed::new(datastore.current_revision().await?));
        let task = tokio::spawn(Arc::clone(&feed).run(Arc::clone(&datastore))).abort_handle();
        Ok(Self { datastore, feed, task })
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
        match timeout(FRESHNESS_TIMEOUT, seen.wait_for(|current| *current >= revision)).await {
            Ok(Ok(current)) => Ok(*current),
            _ => Err(Error::TooLarge { asked: revision, current: self.revision() }),
        }
    }
}

/// The first key after all that begin with `prefix`, which ends with a slash.
fn after_prefix(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
