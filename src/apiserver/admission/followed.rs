//! What administrators configure as objects (webhooks, policies), compiled and kept as long as nothing changes.
//!
//! Every write asks for it. While nothing is configured that costs a look at the revision of a cache, and nothing else.

use std::sync::Arc;

use k3s_api::resource::Resource;
use k3s_kine::Revision;
use parking_lot::RwLock;

use crate::registry::{Cache, Entry, Error, Registry};

/// A value made of all objects of some resources.
pub struct Followed<T, const N: usize> {
    resources: [fn() -> &'static Resource; N],
    held: RwLock<Option<Held<T, N>>>,
}

struct Held<T, const N: usize> {
    caches: [Arc<Cache>; N],
    /// The caches' revisions when the value was made.
    revisions: [Revision; N],
    /// None if there are no objects.
    value: Option<Arc<T>>,
}

impl<T, const N: usize> Held<T, N> {
    fn is_current(&self) -> bool {
        self.caches.iter().zip(&self.revisions).all(|(cache, revision)| cache.revision() == *revision)
    }
}

impl<T, const N: usize> Followed<T, N> {
    /// Of the objects of these resources.
    pub fn new(resources: [fn() -> &'static Resource; N]) -> Self {
        Self { resources, held: RwLock::new(None) }
    }

    /// The value; None if there is no object of the first of the resources.
    ///
    /// It may miss what was written on another server moments ago, as with Kubernetes. `make` is given the objects of
    /// each resource in the order of their names, and the value of before, to take from it what is the same.
    pub async fn get(
        &self,
        registry: &Registry,
        make: impl Fn(&[Vec<Arc<Entry>>; N], Option<&T>) -> Result<T, Error>,
    ) -> Result<Option<Arc<T>>, Error> {
        let mut before = None;
        if let Some(held) = &*self.held.read() {
            if held.is_current() {
                return Ok(held.value.clone());
            }
            before.clone_from(&held.value);
        }
        let mut caches = Vec::with_capacity(N);
        for resource in self.resources {
            caches.push(registry.cache(resource()).await?);
        }
        let caches: [Arc<Cache>; N] = caches.try_into().map_err(|_| Error::Datastore(k3s_kine::Error::Closed))?;
        let mut revisions = [0; N];
        let listed: [Vec<Arc<Entry>>; N] = std::array::from_fn(|index| {
            let listing = caches[index].list("");
            revisions[index] = listing.revision;
            listing.entries
        });
        let none = listed.first().is_none_or(Vec::is_empty);
        let value = if none { None } else { Some(Arc::new(make(&listed, before.as_deref())?)) };
        *self.held.write() = Some(Held { caches, revisions, value: value.clone() });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use k3s_kine::sqlite::{Options, Sqlite};

    use super::*;
    use crate::registry::known;

    #[tokio::test]
    async fn the_value_is_made_again_only_after_a_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(&folder.path().join("state.db"), Options::default()).expect("a datastore");
        let registry = Registry::open(Arc::new(store), Arc::default()).await.expect("a registry");
        let followed: Followed<usize, 1> = Followed::new([known::mutating_webhook_configurations]);
        let made = AtomicUsize::new(0);
        let get = async || {
            let make = |[entries]: &[Vec<Arc<Entry>>; 1], _: Option<&usize>| {
                made.fetch_add(1, Relaxed);
                Ok(entries.len())
            };
            followed.get(&registry, make).await.expect("a value").map(|value| *value)
        };
        assert_eq!((get().await, get().await, made.load(Relaxed)), (None, None, 0));
        let row = known::mutating_webhook_configurations();
        let stored = br#"{"apiVersion":"v1","kind":"X","metadata":{"name":"x"}}"#.to_vec();
        let written = registry.create(row, "x", stored, 0).await.expect("written");
        registry.catch_up().await.expect("caught up");
        assert_eq!((get().await, get().await, made.load(Relaxed)), (Some(1), Some(1), 1));
        let crate::registry::Outcome::Done(entry) = written else { panic!("nobody else writes") };
        registry.delete(row, &entry).await.expect("deleted");
        registry.catch_up().await.expect("caught up");
        assert_eq!((get().await, made.load(Relaxed)), (None, 1));
    }
}
