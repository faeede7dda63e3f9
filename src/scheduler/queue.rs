//! Pods that wait for a node.
//!
//! Three places, as in kube-scheduler: ready to be tried, by priority and age; backing off after a failed try; and parked
//! until something happens that could make them fit.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First and longest back-off, the defaults of kube-scheduler.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A pod's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn of(pod: &Pod) -> Self {
        Self { namespace: pod.namespace().unwrap_or_default(), name: pod.name_any() }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Ready,
    /// Being tried or bound.
    Active,
    BackingOff,
    Parked {
        since: Instant,
    },
}

struct Waiting {
    place: Place,
    priority: i32,
    /// Order of arrival.
    number: u64,
    generation: Option<i64>,
    tries: u32,
    last_try: Option<Instant>,
    /// Something happened while it was being tried.
    woken: bool,
}

impl Waiting {
    fn backoff(&self) -> Duration {
        let doubled = FIRST_BACKOFF.saturating_mul(1 << self.tries.saturating_sub(1).min(8)).min(LONGEST_BACKOFF);
        self.last_try.map_or(Duration::ZERO, |tried| doubled.saturating_sub(tried.elapsed()))
    }
}

#[derive(Default)]
struct State {
    pods: HashMap<Key, Waiting>,
    ready: BTreeSet<(Reverse<i32>, u64, Key)>,
    counter: u64,
}

impl State {
    fn make_ready(&mut self, key: &Key) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.place = Place::Ready;
            self.ready.insert((Reverse(pod.priority), pod.number, key.clone()));
        }
    }
}

/// The queue. Clones share it.
#[derive(Clone, Default)]
pub struct Queue {
    state: Arc<Mutex<State>>,
    added: Arc<Notify>,
}

impl Queue {
    /// Adds a pod, or notes that it changed: a parked one whose specification (`generation`) is another is tried again.
    pub fn add(&self, key: Key, priority: i32, generation: Option<i64>) {
        let mut state = self.state.lock();
        if let Some(pod) = state.pods.get_mut(&key) {
            let changed = pod.generation != generation;
            pod.generation = generation;
            if changed {
                pod.woken = true;
                if matches!(pod.place, Place::Parked { .. }) {
                    state.make_ready(&key);
                    self.added.notify_one();
                }
            }
            return;
        }
        state.counter += 1;
        let number = state.counter;
        let pod = Waiting { place: Place::Ready, priority, number, generation, tries: 0, last_try: None, woken: false };
        state.pods.insert(key.clone(), pod);
        state.make_ready(&key);
        self.added.notify_one();
    }

    /// Forgets a pod.
    pub fn remove(&self, key: &Key) {
        let mut state = self.state.lock();
        if let Some(pod) = state.pods.remove(key) {
            state.ready.remove(&(Reverse(pod.priority), pod.number, key.clone()));
        }
    }

    /// The next pod to try; waits for one.
    pub async fn next(&self) -> Key {
        loop {
            let added = self.added.notified();
            if let Some(key) = self.take() {
                return key;
            }
            added.await;
        }
    }

    fn take(&self) -> Option<Key> {
        let mut state = self.state.lock();
        let (_, _, key) = state.ready.pop_first()?;
        if let Some(pod) = state.pods.get_mut(&key) {
            pod.place = Place::Active;
            pod.tries = pod.tries.saturating_add(1);
            pod.last_try = Some(Instant::now());
            pod.woken = false;
        }
        Some(key)
    }

    /// Tries a pod again after its back-off.
    pub fn retry(&self, key: &Key) {
        let mut state = self.state.lock();
        let Some(pod) = state.pods.get_mut(key) else { return };
        pod.place = Place::BackingOff;
        let wait = pod.backoff();
        self.ready_after(key.clone(), wait);
    }

    /// Puts a pod that fits nowhere aside, until something happens. If something did while it was tried, it is only
    /// backing off.
    pub fn park(&self, key: &Key) {
        let mut state = self.state.lock();
        let Some(pod) = state.pods.get_mut(key) else { return };
        if std::mem::take(&mut pod.woken) {
            pod.place = Place::BackingOff;
            let wait = pod.backoff();
            self.ready_after(key.clone(), wait);
        } else {
            let since = Instant::now();
            pod.place = Place::Parked { since };
            let (queue, key) = (self.clone(), key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(crate::FLUSH).await;
                let mut state = queue.state.lock();
                if state.pods.get(&key).is_some_and(|pod| pod.place == Place::Parked { since }) {
                    state.make_ready(&key);
                    queue.added.notify_one();
                }
            });
        }
    }

    /// Something happened that may make parked pods fit.
    pub fn wake_all(&self) {
        let mut state = self.state.lock();
        let mut waits = Vec::new();
        for (key, pod) in &mut state.pods {
            match pod.place {
                Place::Active => pod.woken = true,
                Place::Parked { .. } => {
                    pod.place = Place::BackingOff;
                    waits.push((key.clone(), pod.backoff()));
                }
                Place::Ready | Place::BackingOff => {}
            }
        }
        for (key, wait) in waits {
            if wait.is_zero() {
                state.make_ready(&key);
                self.added.notify_one();
            } else {
                self.ready_after(key, wait);
            }
        }
    }

    fn ready_after(&self, key: Key, wait: Duration) {
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut state = queue.state.lock();
            if state.pods.get(&key).is_some_and(|pod| pod.place == Place::BackingOff) {
                state.make_ready(&key);
                queue.added.notify_one();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn higher_priority_first_then_older_first() {
        let queue = Queue::default();
        queue.add(key("a"), 0, None);
        queue.add(key("b"), 0, None);
        queue.add(key("c"), 10, None);
        assert_eq!([queue.next().await.name, queue.next().await.name, queue.next().await.name], ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_waits_for_an_event_and_its_back_off() {
        let queue = Queue::default();
        queue.add(key("a"), 0, Some(1));
        assert_eq!(queue.next().await, key("a"));
        queue.park(&key("a"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(queue.take().is_none());
        queue.wake_all();
        assert_eq!(queue.take(), Some(key("a")));
        // Woken while it is tried: it is not parked but backs off, now for two seconds.
        queue.wake_all();
        queue.park(&key("a"));
        assert!(queue.take().is_none());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(queue.take(), Some(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_specification_is_tried_at_once_and_a_status_is_not() {
        let queue = Queue::default();
        queue.add(key("a"), 0, Some(1));
        queue.next().await;
        queue.park(&key("a"));
        queue.add(key("a"), 0, Some(1));
        assert!(queue.take().is_none());
        queue.add(key("a"), 0, Some(2));
        assert_eq!(queue.take(), Some(key("a")));
        queue.remove(&key("a"));
        queue.retry(&key("a"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(queue.take().is_none());
    }
}
