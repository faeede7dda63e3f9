//! One watch of the whole datastore that feeds every cache.
//!
//! One watch, not one per resource: the feed then knows at every moment up to which revision all caches are complete,
//! so that a consistent read waits only until the feed has passed the datastore's newest revision, however quiet the
//! resource it reads.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k3s_kine::{Error as DatastoreError, Event, Revision, WatchBatch};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Cache, Error};
use crate::encryption::Store;

/// How long to wait before watching again after the datastore refused.
const RETRY: Duration = Duration::from_millis(200);

/// The caches by prefix, and the revision up to which all of them are complete.
pub(super) struct Feed {
    pub caches: RwLock<BTreeMap<Box<str>, Arc<Cache>>>,
    pub revision: watch::Sender<Revision>,
}

impl Feed {
    pub fn new(revision: Revision) -> Self {
        Self { caches: RwLock::default(), revision: watch::Sender::new(revision) }
    }

    /// Feeds the caches until the task is dropped or the datastore closes.
    pub async fn run(self: Arc<Self>, datastore: Store) {
        loop {
            let after = *self.revision.borrow();
            match datastore.watch(Bytes::from_static(b"\0"), Bytes::from_static(b"\xff"), after).await {
                Ok(mut batches) => {
                    while let Some(batch) = batches.recv().await {
                        self.take(batch);
                    }
                }
                Err(Error::Datastore(DatastoreError::Closed)) => return,
                // A revision that has not happened yet, but was seen: the datastore was set back to an older state.
                Err(Error::Datastore(error @ (DatastoreError::Compacted { .. } | DatastoreError::Future { .. }))) => {
                    // Changes have been missed: what is cached can't be trusted any more.
                    tracing::warn!(after, %error, "the feed has missed changes; caches are read again");
                    match datastore.current_revision().await {
                        Ok(revision) => {
                            self.reset();
                            self.revision.send_replace(revision);
                        }
                        Err(error) => {
                            tracing::error!(%error, "cannot read the datastore's revision");
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, after, "cannot watch the datastore");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn take(&self, batch: WatchBatch) {
        let revision = match batch {
            WatchBatch::Progress(revision) => revision,
            WatchBatch::Events(events) => {
                let Some(revision) = events.last().map(Event::revision) else { return };
                self.distribute(events);
                revision
            }
        };
        self.revision.send_if_modified(|current| {
            let newer = revision > *current;
            *current = revision.max(*current);
            newer
        });
    }

    fn distribute(&self, events: Vec<Event>) {
        let mut events = events.into_iter().peekable();
        while let Some(event) = events.next() {
            let Some(cache) = self.cache_of(event.key()) else { continue };
            let mut run = vec![event];
            while let Some(event) = events.next_if(|event| event.key().starts_with(cache.prefix().as_bytes())) {
                run.push(event);
            }
            if let Err(error) = cache.apply(run) {
                tracing::error!(%error, prefix = cache.prefix(), "an event cannot be read; its cache is read again");
                self.caches.write().remove(cache.prefix());
                cache.close();
            }
        }
    }

    /// The cache whose prefix the key has. No prefix begins with another, so it is the last one not after the key.
    fn cache_of(&self, key: &[u8]) -> Option<Arc<Cache>> {
        let key = std::str::from_utf8(key).ok()?;
        let caches = self.caches.read();
        let (prefix, cache) = caches.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(&**prefix).then(|| Arc::clone(cache))
    }

    fn reset(&self) {
        for cache in std::mem::take(&mut *self.caches.write()).into_values() {
            cache.close();
        }
    }
}
