//! Work queues: each key is worked on by one task at a time, however often it is added, and comes back later if the
//! work failed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// First wait after a failure; it doubles with each failure in a row.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A namespace and a name; the namespace is empty for cluster-scoped objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<K: kube::ResourceExt>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// The key of another object in the same namespace.
    pub fn beside<K: kube::ResourceExt>(object: &K, name: &str) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: name.to_owned() }
    }
}

struct State<T> {
    ready: VecDeque<T>,
    queued: HashSet<T>,
    active: HashSet<T>,
    /// Added while it was worked on.
    again: HashSet<T>,
    failures: HashMap<T, u32>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            active: HashSet::new(),
            again: HashSet::new(),
            failures: HashMap::new(),
        }
    }
}

/// A queue of keys. Clones share it.
pub struct Queue<T> {
    state: Arc<Mutex<State<T>>>,
    added: Arc<Notify>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), added: self.added.clone() }
    }
}

impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self { state: Arc::default(), added: Arc::default() }
    }
}

impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Queue<T> {
    /// Adds a key, unless it waits already.
    pub fn add(&self, key: T) {
        let mut state = self.state.lock();
        if state.active.contains(&key) {
            state.again.insert(key);
        } else if state.queued.insert(key.clone()) {
            state.ready.push_back(key);
            self.added.notify_one();
        }
    }

    /// Adds a key after a while.
    pub fn add_after(&self, key: T, delay: Duration) {
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            queue.add(key);
        });
    }

    async fn next(&self) -> T {
        loop {
            let added = self.added.notified();
            {
                let mut state = self.state.lock();
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.active.insert(key.clone());
                    return key;
                }
            }
            added.await;
        }
    }

    fn done(&self, key: &T, ok: bool) {
        let retry = {
            let mut state = self.state.lock();
            state.active.remove(key);
            let again = state.again.remove(key);
            if ok {
                state.failures.remove(key);
                again.then_some(Duration::ZERO)
            } else {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                *failures = failures.saturating_add(1);
                let wait = FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(12)).min(LONGEST_RETRY);
                Some(if again { Duration::ZERO.max(FIRST_RETRY) } else { wait })
            }
        };
        match retry {
            Some(Duration::ZERO) => self.add(key.clone()),
            Some(wait) => self.add_after(key.clone(), wait),
            None => {}
        }
    }

    /// Calls `work` for each key as it comes, up to `parallel` at a time, until cancelled. A failure is logged, and the
    /// key comes back with exponential back-off. A panic in `work` counts as a failure.
    pub async fn run<F, Fut, E>(self, name: &'static str, parallel: usize, cancel: CancellationToken, work: F)
    where
        F: Fn(T) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        loop {
            let key = tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = tasks.join_next(), if tasks.len() >= parallel => continue,
                key = self.next(), if tasks.len() < parallel => key,
            };
            while tasks.try_join_next().is_some() {}
            let queue = self.clone();
            let future = work(key.clone());
            tasks.spawn(async move {
                // A task of its own, so that a panic ends here.
                let ok = match tokio::spawn(future).await {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        tracing::warn!(controller = name, ?key, %error, "reconcile failed; it is tried again");
                        false
                    }
                    Err(error) => {
                        tracing::error!(controller = name, ?key, %error, "reconcile panicked; it is tried again");
                        false
                    }
                };
                queue.done(&key, ok);
            });
        }
        tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_key_is_never_worked_on_twice_at_once_and_a_change_meanwhile_is_not_lost() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.state.lock().ready.is_empty());
        queue.done(&"a", true);
        assert_eq!(queue.next().await, "a");
        queue.done(&"a", true);
        assert!(queue.state.lock().ready.is_empty());
    }

    #[tokio::test]
    async fn what_fails_or_panics_comes_back() {
        let queue = Queue::default();
        let cancel = CancellationToken::new();
        let count = Arc::new(AtomicUsize::new(0));
        queue.add(7);
        let (counter, end) = (count.clone(), cancel.clone());
        queue
            .run("test", 2, cancel, move |_| {
                let (count, end) = (counter.clone(), end.clone());
                async move {
                    match count.fetch_add(1, Ordering::SeqCst) {
                        0 => Err("first"),
                        1 => panic!("second"),
                        _ => {
                            end.cancel();
                            Ok(())
                        }
                    }
                }
            })
            .await;
        assert!(count.load(Ordering::SeqCst) >= 3);
    }
}
