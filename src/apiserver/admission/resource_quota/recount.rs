//! Counts anew what quotas limit: for new quotas and new limits, after deletions and pods that have run to their end, and
//! when a write that was charged came to nothing. What `kube-controller-manager`'s resource quota controller does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use k3s_api::object::at;
use k3s_api::resource::Resource;
use k3s_kine::Revision;
use serde_json::Value;

use super::charges::IN_FLIGHT;
use super::usage::{self, Amounts};
use super::{Charges, scope, store};
use crate::registry::{self, Cache, Change, Entry, Outcome, Registry, Row, known};
use crate::{ApiServer, Inner};

/// Changes come in bursts; they are looked at together.
const PAUSE: Duration = Duration::from_millis(50);
/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Changes looked at in one go.
const BATCH: usize = 1000;

/// Keeps the usage right as long as the server lives.
pub(crate) async fn run(server: Weak<Inner>) {
    let mut recount = Recount::default();
    loop {
        let Some(inner) = server.upgrade() else { return };
        let server_now = ApiServer { inner };
        let registry = server_now.registry();
        let done = match registry.cache(known::resource_quotas()).await {
            Ok(quotas) => {
                let mut changed = quotas.subscribe();
                changed.mark_unchanged();
                recount.step(registry, server_now.charges()).await.map(|()| changed)
            }
            Err(error) => Err(error),
        };
        let mut wait = recount.subscriptions();
        let later = match done {
            Ok(mut changed) => {
                wait.push(async move { changed.changed().await.is_ok() }.boxed());
                (!server_now.charges().is_empty()).then_some(IN_FLIGHT)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot count what quotas limit; it is tried again");
                Some(RETRY)
            }
        };
        let stopped = server_now.inner.stop.clone();
        drop(server_now);
        let sleep = async { tokio::time::sleep(later.unwrap_or_default()).await };
        tokio::select! {
            _ = select_all(wait.drain(..).chain([futures::future::pending().boxed()])) => {}
            () = sleep, if later.is_some() => {}
            () = stopped.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopped.cancelled() => return,
        }
    }
}

/// The caches that quotas depend on, and how far they have been looked at.
#[derive(Default)]
struct Recount {
    watched: BTreeMap<Arc<str>, Watched>,
    /// Namespaces that are to be counted.
    due: BTreeSet<String>,
}

struct Watched {
    cache: Arc<Cache>,
    seen: Revision,
    frees: Frees,
}

/// What may make something free, besides a deletion.
#[derive(Clone, Copy)]
enum Frees {
    Nothing,
    /// A pod that is over.
    End,
    /// An object that needs less now.
    Update,
}

impl Frees {
    fn of(row: &Resource) -> Self {
        match &*row.plural {
            _ if usage::is_plain(row) => Self::Nothing,
            "pods" => Self::End,
            _ => Self::Update,
        }
    }

    fn by(self, change: &Change) -> Result<bool, registry::Error> {
        let Some(previous) = &change.previous else { return Ok(false) };
        Ok(match self {
            Self::Nothing => false,
            Self::End => usage::is_over(&*change.object.value()?) && !usage::is_over(&*previous.value()?),
            Self::Update => true,
        })
    }
}

impl Recount {
    fn subscriptions(&self) -> Vec<futures::future::BoxFuture<'static, bool>> {
        let of = |watched: &Watched| {
            let (mut changed, seen) = (watched.cache.subscribe(), watched.seen);
            async move { changed.wait_for(|revision| *revision > seen).await.is_ok() }.boxed()
        };
        self.watched.values().map(of).collect()
    }

    async fn step(&mut self, registry: &Registry, charges: &Charges) -> Result<(), registry::Error> {
        let quotas = registry.list(known::resource_quotas(), "").await?.entries;
        self.watch(registry, &quotas).await?;
        self.look(charges, &quotas)?;
        for charge in charges.over() {
            let (prefix, key) = &charge.object;
            let stored = registry.cache_of_prefix(prefix).await?.get(key);
            if !stored.is_some_and(|entry| charge.is_of(&entry)) {
                self.due.insert(charge.namespace.clone());
            }
        }
        for entry in &quotas {
            let quota = entry.value()?;
            if at(&quota, &["status", "hard"]).unwrap_or(&Value::Null) != hard(&quota) {
                self.due.insert(entry.namespace().to_owned());
            }
        }
        while let Some(namespace) = self.due.first().cloned() {
            count(registry, charges, &namespace).await?;
            self.due.remove(&namespace);
        }
        Ok(())
    }

    /// Begins to watch what the quotas limit, and stops to watch what none does.
    async fn watch(&mut self, registry: &Registry, quotas: &[Arc<Entry>]) -> Result<(), registry::Error> {
        let mut wanted = BTreeSet::new();
        for entry in quotas {
            for row in rows(registry, &*entry.value()?) {
                let cache = registry.cache(&row).await?;
                wanted.insert(Arc::<str>::from(cache.prefix()));
                let is_known = self.watched.get(cache.prefix()).is_some_and(|known| Arc::ptr_eq(&known.cache, &cache));
                if !is_known {
                    // Counted as of now or later. What came before tells which charges are settled.
                    self.due.insert(entry.namespace().to_owned());
                    let frees = Frees::of(&row);
                    let watched = Watched { seen: cache.window_start(), cache: Arc::clone(&cache), frees };
                    self.watched.insert(cache.prefix().into(), watched);
                }
            }
        }
        self.watched.retain(|prefix, _| wanted.contains(prefix));
        Ok(())
    }

    /// Finds out where something has become free.
    fn look(&mut self, charges: &Charges, quotas: &[Arc<Entry>]) -> Result<(), registry::Error> {
        let limited: BTreeSet<&str> = quotas.iter().map(|entry| entry.namespace()).collect();
        for watched in self.watched.values_mut() {
            loop {
                let Ok((seen, changes)) = watched.cache.changes(watched.seen, BATCH) else {
                    watched.seen = watched.cache.revision();
                    self.due.extend(limited.iter().map(|namespace| (*namespace).to_owned()));
                    break;
                };
                watched.seen = seen;
                for change in &changes {
                    let namespace = change.object.namespace();
                    if change.deleted || change.previous.is_none() {
                        charges.stored(watched.cache.prefix(), &change.object);
                    }
                    let looked_at = limited.contains(namespace) && !self.due.contains(namespace);
                    if looked_at && (change.deleted || watched.frees.by(change)?) {
                        self.due.insert(namespace.to_owned());
                    }
                }
                if changes.len() < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn hard(quota: &Value) -> &Value {
    at(quota, &["spec", "hard"]).unwrap_or(&Value::Null)
}

fn names(quota: &Value) -> impl Iterator<Item = &String> {
    hard(quota).as_object().into_iter().flat_map(|hard| hard.keys())
}

/// The resources that a quota limits, as far as they are there.
fn rows(registry: &Registry, quota: &Value) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (group, plural) in names(quota).filter_map(|name| usage::counts_of(name)) {
        let is_it = |row: &Row| row.group == group && row.plural == plural && row.namespaced;
        if !rows.iter().any(is_it)
            && let Some(row) = registry.resources().into_iter().find(is_it)
        {
            rows.push(row);
        }
    }
    rows
}

/// Counts what is stored in a namespace, and says so in the status of its quotas.
pub(crate) async fn count(registry: &Registry, charges: &Charges, namespace: &str) -> Result<(), registry::Error> {
    let _turn = charges.turn(namespace).await;
    for entry in registry.list(known::resource_quotas(), namespace).await?.entries {
        // Before what is stored: what is stored meanwhile is counted twice then, and not missed.
        let in_flight = charges.of(namespace);
        let quota = entry.value()?;
        let mut used: Amounts = names(&quota).map(|name| (name.clone(), usage::units(0))).collect();
        let mut add = |amounts: &Amounts| {
            for (name, amount) in amounts {
                if let Some(sum) = used.get_mut(name) {
                    *sum += *amount;
                }
            }
        };
        let mut stored = Vec::new();
        for row in rows(registry, &quota) {
            let entries = registry.list(&row, namespace).await?.entries;
            if scope::is_scoped(&quota) || !usage::is_plain(&row) {
                for entry in &entries {
                    let object = entry.value()?;
                    if scope::takes_in(&quota, &row, &object) {
                        add(&usage::of(&row, &object));
                    }
                }
            } else {
                add(&usage::counted(&row, entries.len()));
            }
            stored.extend(entries);
        }
        for charge in in_flight {
            let mut stored = stored.iter().filter(|entry| **entry.key() == *charge.object.1);
            if !stored.any(|entry| charge.is_of(entry)) {
                charge.amounts.iter().filter(|(name, _)| name == entry.name()).for_each(|(_, amounts)| add(amounts));
            }
        }
        match store(registry, &entry, Some(hard(&quota)), &used).await? {
            Outcome::Done(_) => {}
            // Another server, or the user: there will be a change to follow.
            Outcome::Lost(_) => tracing::debug!(namespace, quota = entry.name(), "the quota changed while counting"),
        }
    }
    Ok(())
}
