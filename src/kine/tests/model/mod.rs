//! Random operations on a datastore and on a map; both must always tell the same, and so must watches. For every
//! backend: see [`Backend`].

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use k3s_kine::{
    Compare, Datastore, Error, Event, KeyValue, Operator, Revision, Target, Txn, TxnOp, TxnResult, WatchBatch,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::JoinHandle;

/// What the model is compared with.
pub trait Backend {
    type Store: Datastore;

    /// A transaction with several writes takes one revision only, as in etcd, and can't write a key twice.
    const ONE_REVISION: bool = false;

    /// Opens the same datastore each time.
    async fn open(&self) -> Self::Store;

    /// Closes it; all its watches end.
    async fn close(&self, store: Self::Store);
}

/// The reference: all states there were, and all events.
struct Model {
    /// The revision before the first operation.
    base: Revision,
    /// State at each revision from `base` on.
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    events: Vec<Event>,
    compacted: Revision,
    /// All that is done now is of this revision.
    transaction: Option<Revision>,
}

impl Model {
    fn current(&self) -> Revision {
        self.base + self.states.len() as Revision - 1
    }

    fn now(&self) -> &BTreeMap<Bytes, KeyValue> {
        self.states.last().unwrap()
    }

    fn at(&self, revision: Revision) -> &BTreeMap<Bytes, KeyValue> {
        if revision == 0 { self.now() } else { &self.states[usize::try_from(revision - self.base).unwrap()] }
    }

    /// Begins a new state, if a write has one of its own.
    fn step(&mut self) -> Revision {
        if self.transaction != Some(self.current()) {
            self.states.push(self.now().clone());
        }
        self.current()
    }

    /// What a write must answer: `value` none is a deletion, `expected` none a creation.
    fn write(&mut self, key: &Bytes, expected: Option<Revision>, value: Option<Bytes>) -> Result<Revision, Revision> {
        let there = self.now().get(key).map(|kv| kv.mod_revision);
        if there != expected {
            return Err(there.unwrap_or(0));
        }
        match value {
            Some(value) => self.put(key, value),
            None => self.delete(key),
        }
        Ok(self.current())
    }

    fn put(&mut self, key: &Bytes, value: Bytes) {
        let previous = self.now().get(key).cloned();
        let revision = self.step();
        let create_revision = previous.as_ref().map_or(revision, |kv| kv.create_revision);
        let version = previous.as_ref().map_or(1, |kv| kv.version + 1);
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease: 0 };
        self.states.last_mut().unwrap().insert(key.clone(), kv.clone());
        self.events.push(Event::Put { kv, previous });
    }

    fn delete(&mut self, key: &Bytes) {
        let revision = self.step();
        let previous = self.states.last_mut().unwrap().remove(key).unwrap();
        self.events.push(Event::Delete { revision, previous });
    }

    fn range(&self, revision: Revision, start: &Bytes, end: &Bytes) -> Vec<KeyValue> {
        self.at(revision).values().filter(|kv| (start..end).contains(&&kv.key)).cloned().collect()
    }
}

/// A watch, and the task that collects what it brings.
struct Watching {
    start: Bytes,
    end: Bytes,
    after: Revision,
    told: tokio::sync::watch::Receiver<Revision>,
    task: JoinHandle<Vec<Event>>,
}

impl Watching {
    async fn begin(store: &impl Datastore, start: Bytes, end: Bytes, after: Revision) -> Self {
        let mut watch = store.watch(start.clone(), end.clone(), after).await.unwrap();
        let (sender, told) = tokio::sync::watch::channel(after);
        let task = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Some(batch) = watch.recv().await {
                let told = *sender.borrow();
                sender.send_replace(match batch {
                    WatchBatch::Events(batch) => {
                        assert!(batch[0].revision() > told, "{batch:?} after {told}");
                        events.extend(batch);
                        events.last().unwrap().revision()
                    }
                    WatchBatch::Progress(revision) => {
                        assert!(revision >= told, "progress {revision} after {told}");
                        revision
                    }
                });
            }
            events
        });
        Self { start, end, after, told, task }
    }

    /// Waits until the watch has come to where the model is; only a compaction may have ended it before.
    async fn arrive(&mut self, store: &impl Datastore, model: &Model) {
        let current = model.current();
        let arrived = async {
            while *self.told.borrow() < current {
                store.request_progress().await.unwrap();
                let soon = tokio::time::timeout(Duration::from_millis(100), self.told.changed()).await;
                if let Ok(Err(_)) = soon {
                    let told = *self.told.borrow();
                    assert!(told < model.compacted, "ended at {told}, compacted is {}", model.compacted);
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), arrived).await;
        assert!(waited.is_ok(), "the watch after {} is at {}, not {current}", self.after, *self.told.borrow());
    }

    async fn compare(self, model: &Model) {
        let events = self.task.await.unwrap();
        let told = *self.told.borrow();
        let expected: Vec<_> = model
            .events
            .iter()
            .filter(|event| (self.after + 1..=told).contains(&event.revision()))
            .filter(|event| (&self.start..&self.end).contains(&event.key()))
            .cloned()
            .collect();
        assert_eq!(events, expected, "watch after {}", self.after);
    }
}

/// Compares for so many steps, in keys that no other seed uses.
pub async fn run<B: Backend>(backend: &B, seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut store = backend.open().await;
    let base = store.current_revision().await.unwrap();
    let mut model = Model { base, states: vec![BTreeMap::new()], events: Vec::new(), compacted: 0, transaction: None };
    let mut watching: Vec<Watching> = Vec::new();
    let place = |path: &str| Bytes::from(format!("/{seed}{path}"));
    let keys: Vec<Bytes> = (0..12).map(|n| place(&format!("/{}/{}", n % 3, n))).collect();
    let bounds: Vec<Bytes> = ["/", "/0/", "/1/", "/1/4", "/2/", "/20", "0"].map(place).into();

    for step in 0..steps {
        let key = keys.choose(&mut rng).unwrap().clone();
        let there = model.now().get(&key).map(|kv| kv.mod_revision);
        // Mostly what is there, so that most writes succeed.
        let expected = if rng.random_bool(0.9) { there } else { Some(rng.random_range(base..=model.current())) };
        let revision = if rng.random_bool(0.2) { 0 } else { rng.random_range(base..=model.current() + 1) };
        let (from, to) = (bounds.choose(&mut rng).unwrap(), bounds.choose(&mut rng).unwrap());
        let value = Bytes::from(format!("{step}{}", "x".repeat(rng.random_range(0..20))));
        match rng.random_range(0..100) {
            0..50 => {
                let value = Some(value).filter(|_| expected.is_none() || rng.random_bool(0.8));
                let answer = match (expected, value.clone()) {
                    (None, value) => store.create(key.clone(), value.unwrap_or_default(), 0).await,
                    (Some(at), Some(value)) => store.update(key.clone(), at, value, 0).await,
                    (Some(at), None) => store.delete(key.clone(), at).await,
                };
                match model.write(&key, expected, value) {
                    Ok(revision) => assert_eq!(answer.unwrap(), revision),
                    Err(there) => match answer {
                        Err(Error::Conflict { current, .. }) => {
                            assert_eq!(current.map_or(0, |kv| kv.mod_revision), there);
                        }
                        other => panic!("{other:?} is no conflict"),
                    },
                }
            }
            50..60 => transact(&store, &mut model, &key, expected, value, (from, to), B::ONE_REVISION).await,
            60..75 => match store.get(key.clone(), revision).await {
                Ok((current, kv)) => {
                    assert_eq!(current, model.current());
                    assert_eq!(kv.as_ref(), model.at(revision).get(&key));
                }
                Err(error) => refused(&model, revision, &error),
            },
            75..88 => {
                let limit = rng.random_range(0..6);
                match store.range(from.clone(), to.clone(), limit, revision).await {
                    Ok(range) => {
                        let all = model.range(revision, from, to);
                        let some = if limit == 0 { all.len() } else { all.len().min(limit as usize) };
                        assert_eq!(range.kvs, all[..some]);
                        assert_eq!((range.count, range.more), (all.len() as i64, some < all.len()));
                    }
                    Err(error) => refused(&model, revision, &error),
                }
            }
            88..95 => {
                let after = rng.random_range(model.compacted.max(base)..=model.current());
                watching.push(Watching::begin(&store, from.clone(), to.clone(), after).await);
            }
            95..98 => {
                let upto = rng.random_range(model.compacted.max(base)..=model.current());
                store.compact(upto).await.unwrap();
                model.compacted = upto;
            }
            _ => {
                for watching in &mut watching {
                    watching.arrive(&store, &model).await;
                }
                backend.close(store).await;
                for watching in watching.drain(..) {
                    watching.compare(&model).await;
                }
                store = backend.open().await;
                assert_eq!(store.current_revision().await.unwrap(), model.current());
            }
        }
    }

    for watching in &mut watching {
        watching.arrive(&store, &model).await;
    }
    backend.close(store).await;
    for watching in watching {
        watching.compare(&model).await;
    }
}

/// If the key is at the expected revision, writes it and deletes a range, and reads the range before that; else reads
/// the range.
async fn transact(
    store: &impl Datastore,
    model: &mut Model,
    key: &Bytes,
    expected: Option<Revision>,
    value: Bytes,
    (start, end): (&Bytes, &Bytes),
    one_revision: bool,
) {
    let range = TxnOp::Range { start: start.clone(), end: end.clone(), limit: 0, revision: 0 };
    let put = TxnOp::Put { key: key.clone(), value: Some(value.clone()), lease: Some(0) };
    let delete = TxnOp::Delete { start: start.clone(), end: end.clone() };
    let compare = Compare {
        start: key.clone(),
        end: [key.as_ref(), b"\0"].concat().into(),
        operator: Operator::Equal,
        target: Target::ModRevision(expected.unwrap_or(0)),
    };
    let several = match one_revision {
        true => !(start..end).contains(&key),
        false => model.range(0, start, end).len() < 3,
    };
    let success = if several { vec![put, range.clone(), delete] } else { vec![range.clone(), put] };
    let txn = Txn { compare: vec![compare], success, failure: vec![range] };
    let response = store.txn(txn).await.unwrap();

    let there = model.now().get(key).cloned();
    let succeeded = there.as_ref().map(|kv| kv.mod_revision) == expected;
    assert_eq!(response.succeeded, succeeded);
    let ranges = |results: &[TxnResult]| match &results[usize::from(several && succeeded)] {
        TxnResult::Range(range) => range.kvs.clone(),
        other => panic!("{other:?} is no range"),
    };
    if !(succeeded && several) {
        assert_eq!(ranges(&response.results), model.range(0, start, end));
    }
    model.transaction = one_revision.then_some(model.current() + 1);
    if succeeded {
        model.put(key, value);
    }
    if succeeded && several {
        let deleted = model.range(0, start, end);
        assert_eq!(ranges(&response.results), deleted);
        for kv in &deleted {
            model.delete(&kv.key);
        }
        assert_eq!(response.results[0], TxnResult::Put { previous: there });
        assert_eq!(response.results[2], TxnResult::Delete { previous: deleted });
    }
    model.transaction = None;
    assert_eq!(response.revision, model.current());
}

fn refused(model: &Model, asked: Revision, error: &Error) {
    match error {
        Error::Future { .. } => assert!(asked > model.current()),
        Error::Compacted { .. } => assert!(asked < model.compacted),
        other => panic!("{other}"),
    }
}

/// How many seeds the long form runs: `KINE_MODEL_SEEDS`, else 50.
pub fn long_seeds() -> u64 {
    std::env::var("KINE_MODEL_SEEDS").map_or(50, |seeds| seeds.parse().unwrap())
}
