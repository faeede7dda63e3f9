//! The watch cache of one resource: its objects in key order, each once, and a window of recent changes.
//!
//! Readers never wait for the datastore and never decode: a list is a walk over [`Entry`]s, a watch a cursor into the
//! window. Watchers hold no queue of their own, so a client that reads slowly costs nothing but its cursor, and when
//! the cursor has left the window it is cut off (a new watch then reads the missing changes from the datastore).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k3s_kine::{Event, KeyValue, Revision};
use parking_lot::RwLock;
use tokio::sync::{OnceCell, watch};

use super::{Entry, Error};

/// Changes younger than this stay in the window whatever their number, as long as they fit into [`WINDOW_BYTES`].
const WINDOW_AGE: Duration = Duration::from_secs(30);
/// Changes beyond this number leave the window when they are old.
const WINDOW_CHANGES: usize = 128;
/// The window's objects together are never larger than this, except for its newest change.
const WINDOW_BYTES: usize = 8 << 20;

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// The revision at which it happened; also that of `object`.
    pub revision: Revision,
    /// The object is gone; `object` is its last state, at the revision of the deletion.
    pub deleted: bool,
    pub object: Arc<Entry>,
    /// What it was before; `None` for a create.
    pub previous: Option<Arc<Entry>>,
    at: Instant,
}

impl Change {
    fn bytes(&self) -> usize {
        self.object.bytes().len() + self.previous.as_ref().map_or(0, |previous| previous.bytes().len())
    }
}

/// The watcher's cursor has left the window, or the cache has been dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Outdated;

/// Objects of one resource, and the revision they are of.
#[derive(Debug)]
pub struct Listing {
    pub revision: Revision,
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    window: VecDeque<Arc<Change>>,
    window_bytes: usize,
    /// Every change after this revision is in the window.
    window_start: Revision,
    /// The newest revision that changed this resource, or at which it was loaded.
    revision: Revision,
    /// Events that arrive while the objects are being read from the datastore.
    pending: Option<Vec<Event>>,
    closed: bool,
}

/// The objects of one resource. Made by [`super::Registry::cache`], fed by [`super::feed`].
pub struct Cache {
    prefix: Box<str>,
    state: RwLock<State>,
    changed: watch::Sender<Revision>,
    pub(super) loaded: OnceCell<()>,
}

impl Cache {
    /// An empty cache that keeps what the feed tells it until [`Cache::load`].
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            state: RwLock::new(State { pending: Some(Vec::new()), ..State::default() }),
            changed: watch::Sender::new(0),
            loaded: OnceCell::new(),
        }
    }

    /// The datastore's prefix of the keys, with its final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Takes what the datastore held at `revision`, and the events that came meanwhile.
    pub(super) fn load(&self, revision: Revision, kvs: impl IntoIterator<Item = KeyValue>) -> Result<(), Error> {
        let mut entries = BTreeMap::new();
        for kv in kvs {
            let entry = self.entry(&kv.key, kv.mod_revision, &kv.value)?;
            entries.insert(Arc::clone(entry.key()), entry);
        }
        let mut state = self.state.write();
        state.entries = entries;
        state.revision = revision;
        state.window_start = revision;
        for event in state.pending.take().unwrap_or_default() {
            if event.revision() > revision {
                self.change(&mut state, event)?;
            }
        }
        Ok(())
    }

    fn entry(&self, key: &[u8], revision: Revision, stored: &[u8]) -> Result<Arc<Entry>, Error> {
        let key = String::from_utf8_lossy(key.get(self.prefix.len()..).unwrap_or_default());
        Entry::decode(key.into(), revision, stored).map(Arc::new)
    }

    /// Applies events in order.
    pub(super) fn apply(&self, events: impl IntoIterator<Item = Event>) -> Result<(), Error> {
        let mut state = self.state.write();
        for event in events {
            match &mut state.pending {
                Some(pending) => pending.push(event),
                None => self.change(&mut state, event)?,
            }
        }
        let revision = state.revision;
        drop(state);
        self.changed.send_replace(revision);
        Ok(())
    }

    fn change(&self, state: &mut State, event: Event) -> Result<(), Error> {
        let revision = event.revision();
        let (object, deleted) = match event {
            Event::Put { kv, .. } => (self.entry(&kv.key, revision, &kv.value)?, false),
            Event::Delete { previous, .. } => (self.entry(&previous.key, revision, &previous.value)?, true),
        };
        let previous = if deleted {
            state.entries.remove(object.key())
        } else {
            state.entries.insert(Arc::clone(object.key()), Arc::clone(&object))
        };
        let change = Arc::new(Change { revision, deleted, object, previous, at: Instant::now() });
        state.revision = revision;
        state.window_bytes += change.bytes();
        state.window.push_back(change);
        while state.window.len() > 1
            && let Some(oldest) = state.window.front()
            && (state.window_bytes > WINDOW_BYTES
                || (state.window.len() > WINDOW_CHANGES && oldest.at.elapsed() > WINDOW_AGE))
        {
            state.window_bytes -= oldest.bytes();
            state.window_start = oldest.revision;
            state.window.pop_front();
        }
        Ok(())
    }

    /// Ends the cache: its watchers are cut off. The registry makes a new one.
    pub(super) fn close(&self) {
        let mut state = self.state.write();
        *state = State { closed: true, ..State::default() };
        drop(state);
        self.changed.send_modify(|_| ());
    }

    /// The newest revision at which this resource changed, as far as the cache has seen.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object with that key (`namespace/name` or name), as far as the cache has seen.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).cloned()
    }

    /// The objects of one namespace (empty: of all), as far as the cache has seen.
    pub fn list(&self, namespace: &str) -> Listing {
        self.list_after(namespace, None)
    }

    /// As [`Cache::list`], from the first key after `after` on.
    pub fn list_after(&self, namespace: &str, after: Option<&str>) -> Listing {
        let state = self.state.read();
        let (start, end) = bounds(namespace);
        let start = match after {
            Some(after) if after >= start.as_str() => Bound::Excluded(after),
            _ => Bound::Included(start.as_str()),
        };
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.as_str()) };
        let entries = match (start, end) {
            // A token from another namespace: nothing lies between.
            (Bound::Excluded(start), Bound::Excluded(end)) if start >= end => Vec::new(),
            range => state.entries.range::<str, _>(range).map(|(_, entry)| Arc::clone(entry)).collect(),
        };
        Listing { revision: state.revision, entries }
    }

    /// Up to `limit` changes after `revision`, in order, with the revision up to which that is all there is.
    ///
    /// # Errors
    /// [`Outdated`] if some of them have left the window.
    pub fn changes(&self, after: Revision, limit: usize) -> Result<(Revision, Vec<Arc<Change>>), Outdated> {
        let state = self.state.read();
        if state.closed || after < state.window_start {
            return Err(Outdated);
        }
        let first = state.window.partition_point(|change| change.revision <= after);
        let changes: Vec<_> = state.window.range(first..).take(limit).cloned().collect();
        let upto = if changes.len() == limit { changes.last().map_or(after, |c| c.revision) } else { state.revision };
        Ok((upto.max(after), changes))
    }

    /// How long ago the change of that revision was seen; `None` if it has left the window.
    pub(crate) fn age(&self, revision: Revision) -> Option<Duration> {
        let state = self.state.read();
        let index = state.window.partition_point(|change| change.revision < revision);
        let change = state.window.get(index).filter(|change| change.revision == revision)?;
        Some(change.at.elapsed())
    }

    /// Where changes begin that [`Cache::changes`] still knows.
    pub fn window_start(&self) -> Revision {
        self.state.read().window_start
    }

    /// Tells when there are changes.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }
}

/// The keys of one namespace: `[start, end)`; of all: `["", ∞)` with an empty end.
fn bounds(namespace: &str) -> (String, String) {
    // '0' is the character after '/'.
    if namespace.is_empty() { Default::default() } else { (format!("{namespace}/"), format!("{namespace}0")) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn kv(name: &str, revision: Revision) -> KeyValue {
        KeyValue {
            key: Bytes::from(format!("/registry/pods/{name}")),
            value: Bytes::from_static(br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}"#),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }
    }

    fn put(name: &str, revision: Revision) -> Event {
        Event::Put { kv: kv(name, revision), previous: None }
    }

    fn keys(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| &**entry.key()).collect()
    }

    #[test]
    fn events_during_the_load_count_once() {
        let cache = Cache::new("/registry/pods/");
        cache.apply([put("a/one", 1), put("a/two", 4)]).expect("events");
        cache.load(3, [kv("a/one", 1), kv("b/three", 3)]).expect("objects");
        assert_eq!(keys(&cache.list("")), ["a/one", "a/two", "b/three"]);
        let (upto, changes) = cache.changes(3, 10).expect("in the window");
        assert_eq!((upto, changes.len()), (4, 1));
        assert_eq!(cache.changes(2, 10).err(), Some(Outdated));
    }

    #[test]
    fn a_namespace_is_not_the_prefix_of_another() {
        let cache = Cache::new("/registry/pods/");
        cache.load(3, [kv("a/x", 1), kv("a-b/x", 2), kv("ab/x", 3)]).expect("objects");
        assert_eq!(keys(&cache.list("a")), ["a/x"]);
        assert!(cache.list_after("a", Some("b/x")).entries.is_empty());
        assert_eq!(keys(&cache.list_after("", Some("a-b/x"))), ["a/x", "ab/x"]);
    }

    #[test]
    fn a_deletion_carries_its_own_revision() {
        let cache = Cache::new("/registry/pods/");
        cache.load(1, [kv("a/x", 1)]).expect("objects");
        cache.apply([Event::Delete { revision: 9, previous: kv("a/x", 1) }]).expect("an event");
        let (_, changes) = cache.changes(1, 10).expect("in the window");
        assert!(changes[0].deleted && cache.get("a/x").is_none());
        assert!(String::from_utf8_lossy(changes[0].object.bytes()).contains(r#""resourceVersion":"9""#));
    }

    #[test]
    fn a_closed_cache_cuts_its_watchers_off() {
        let cache = Cache::new("/registry/pods/");
        cache.load(1, []).expect("nothing");
        cache.close();
        assert_eq!(cache.changes(1, 1).err(), Some(Outdated));
    }
}
