//! Random operations on the datastore and on a map; both must always tell the same, and so must watches.

use std::collections::BTreeMap;

use k3s_kine::KeyValue;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::JoinHandle;

use super::*;

/// The reference: all states there were, and all events.
struct Model {
    /// State at each revision from 1 on.
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    events: Vec<Event>,
    compacted: Revision,
}

impl Model {
    fn current(&self) -> Revision {
        self.states.len() as Revision
    }

    fn now(&self) -> &BTreeMap<Bytes, KeyValue> {
        self.states.last().unwrap()
    }

    fn at(&self, revision: Revision) -> &BTreeMap<Bytes, KeyValue> {
        if revision == 0 { self.now() } else { &self.states[usize::try_from(revision).unwrap() - 1] }
    }

    /// What a write must answer: `value` none is a deletion, `expected` none a creation.
    fn write(&mut self, key: &Bytes, expected: Option<Revision>, value: Option<Bytes>) -> Result<Revision, Revision> {
        let previous = self.now().get(key).cloned();
        let there = previous.as_ref().map(|kv| kv.mod_revision);
        if there != expected {
            return Err(there.unwrap_or(0));
        }
        let revision = self.current() + 1;
        let mut state = self.now().clone();
        self.events.push(match value {
            Some(value) => {
                let create_revision = previous.as_ref().map_or(revision, |kv| kv.create_revision);
                let version = previous.as_ref().map_or(1, |kv| kv.version + 1);
                let kv =
                    KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease: 0 };
                state.insert(key.clone(), kv.clone());
                Event::Put { kv, previous }
            }
            None => Event::Delete { revision, previous: state.remove(key).unwrap() },
        });
        self.states.push(state);
        Ok(revision)
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
    async fn begin(store: &Sqlite, start: Bytes, end: Bytes, after: Revision) -> Self {
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
                        assert!(revision >= told);
                        revision
                    }
                });
            }
            events
        });
        Self { start, end, after, told, task }
    }

    /// Waits until the watch has come to where the model is; only a compaction may have ended it before.
    async fn arrive(&mut self, model: &Model) {
        let current = model.current();
        if self.told.wait_for(|told| *told >= current).await.is_err() {
            let told = *self.told.borrow();
            assert!(told < model.compacted, "ended at {told}, compacted is {}", model.compacted);
        }
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

async fn run(seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let options = Options { progress_interval: Duration::from_millis(5), ..Options::default() };
    let mut store = Store::with(options.clone());
    let mut model = Model { states: vec![BTreeMap::new()], events: Vec::new(), compacted: 0 };
    let mut watching: Vec<Watching> = Vec::new();
    let keys: Vec<Bytes> = (0..12).map(|n| bytes(format!("/{}/{}", n % 3, n))).collect();
    let bounds: Vec<Bytes> = ["/", "/0/", "/1/", "/1/4", "/2/", "/20", "0"].map(bytes).into();

    for step in 0..steps {
        let key = keys.choose(&mut rng).unwrap().clone();
        let there = model.now().get(&key).map(|kv| kv.mod_revision);
        // Mostly what is there, so that most writes succeed.
        let expected = if rng.random_bool(0.9) { there } else { Some(rng.random_range(1..=model.current())) };
        let revision = rng.random_range(0..=model.current() + 1);
        let (from, to) = (bounds.choose(&mut rng).unwrap(), bounds.choose(&mut rng).unwrap());
        let value = bytes(format!("{step}{}", "x".repeat(rng.random_range(0..20))));
        match rng.random_range(0..100) {
            0..60 => {
                let value = Some(value).filter(|_| expected.is_none() || rng.random_bool(0.8));
                let answer = match (expected, value.clone()) {
                    (None, value) => store.store.create(key.clone(), value.unwrap_or_default(), 0).await,
                    (Some(at), Some(value)) => store.store.update(key.clone(), at, value, 0).await,
                    (Some(at), None) => store.store.delete(key.clone(), at).await,
                };
                match model.write(&key, expected, value) {
                    Ok(revision) => assert_eq!(answer.unwrap(), revision),
                    Err(there) => assert_eq!(conflict(answer), there),
                }
            }
            60..75 => match store.store.get(key.clone(), revision).await {
                Ok((current, kv)) => {
                    assert_eq!(current, model.current());
                    assert_eq!(kv.as_ref(), model.at(revision).get(&key));
                }
                Err(error) => refused(&model, revision, &error),
            },
            75..88 => {
                let limit = rng.random_range(0..6);
                match store.store.range(from.clone(), to.clone(), limit, revision).await {
                    Ok(range) => {
                        let state = model.at(revision).values().filter(|kv| (from..to).contains(&&kv.key));
                        let all: Vec<_> = state.cloned().collect();
                        let some = if limit == 0 { all.len() } else { all.len().min(limit as usize) };
                        assert_eq!(range.kvs, all[..some]);
                        assert_eq!((range.count, range.more), (all.len() as i64, some < all.len()));
                    }
                    Err(error) => refused(&model, revision, &error),
                }
            }
            88..95 => {
                let after = rng.random_range(model.compacted..=model.current());
                watching.push(Watching::begin(&store.store, from.clone(), to.clone(), after).await);
            }
            95..98 => {
                let upto = rng.random_range(model.compacted..=model.current());
                store.store.compact(upto).await.unwrap();
                model.compacted = upto;
            }
            _ => {
                for watching in &mut watching {
                    watching.arrive(&model).await;
                }
                store = store.reopen(options.clone()).await;
                for watching in watching.drain(..) {
                    watching.compare(&model).await;
                }
                assert_eq!(store.store.current_revision().await.unwrap(), model.current());
            }
        }
    }

    for watching in &mut watching {
        watching.arrive(&model).await;
    }
    store.store.close().await.unwrap();
    for watching in watching {
        watching.compare(&model).await;
    }
}

fn refused(model: &Model, asked: Revision, error: &Error) {
    match error {
        Error::Future { .. } => assert!(asked > model.current()),
        Error::Compacted { .. } => assert!(asked < model.compacted),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_the_model_does() {
    for seed in 0..6 {
        run(seed, 700).await;
    }
}

/// For longer runs: `KINE_MODEL_SEEDS=1000 cargo test -p k3s-kine --test sqlite long -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is told to"]
async fn it_answers_as_the_model_does_for_long() {
    let seeds = std::env::var("KINE_MODEL_SEEDS").map_or(50, |seeds| seeds.parse().unwrap());
    for seed in 100..100 + seeds {
        run(seed, 2000).await;
    }
}
