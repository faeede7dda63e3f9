//! What has been charged to quotas for objects that may not be stored yet.
//!
//! A quota's usage is what is stored and what is about to be. Who counts anew sees only the first; without this it would
//! take back what a create has been granted a moment before, and two would use up the same rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::usage::Amounts;
use crate::registry::Entry;

/// By then a write is over, one way or the other.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(10);

/// Charges in flight, and whose turn it is to change a namespace's quotas.
#[derive(Default)]
pub(crate) struct Charges {
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    in_flight: Mutex<Vec<Arc<Charge>>>,
}

/// What a write has been granted.
pub(super) struct Charge {
    pub namespace: String,
    /// `/registry/…` prefix and key of the object.
    pub object: (String, String),
    /// Of a create: the object's uid, by which it is known when it is there. Of an update: nothing.
    pub uid: String,
    /// By the quota's name.
    pub amounts: Vec<(String, Amounts)>,
    pub since: Instant,
}

impl Charge {
    /// Whether it was for this very object. A search in its bytes is cheaper than to parse it.
    pub fn is_of(&self, entry: &Entry) -> bool {
        let wanted = format!("\"uid\":\"{}\"", self.uid);
        !self.uid.is_empty() && entry.bytes().windows(wanted.len()).any(|window| window == wanted.as_bytes())
    }
}

impl Charges {
    /// Waits until nobody else changes the quotas of the namespace. (Nobody in this server; other servers' writes are
    /// seen by their resource versions.)
    pub async fn turn(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            // Those that nobody holds or waits for are made again when they are needed.
            if turns.len() > 1000 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(namespace.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Remembers a charge.
    pub(super) fn add(&self, charge: Charge) -> Arc<Charge> {
        let charge = Arc::new(charge);
        self.in_flight.lock().push(Arc::clone(&charge));
        charge
    }

    /// Forgets one that came to nothing.
    pub(super) fn remove(&self, charge: &Arc<Charge>) {
        self.in_flight.lock().retain(|other| !Arc::ptr_eq(other, charge));
    }

    /// Those of a namespace.
    pub(super) fn of(&self, namespace: &str) -> Vec<Arc<Charge>> {
        self.in_flight.lock().iter().filter(|charge| charge.namespace == namespace).cloned().collect()
    }

    /// Forgets the create of an object that is known to have been stored: it is counted there.
    pub(super) fn stored(&self, prefix: &str, entry: &Entry) {
        self.in_flight.lock().retain(|charge| {
            let is_it = charge.object.0 == prefix && *charge.object.1 == **entry.key() && charge.is_of(entry);
            !is_it
        });
    }

    /// Takes those out whose writes are over.
    pub(super) fn over(&self) -> Vec<Arc<Charge>> {
        self.in_flight.lock().extract_if(.., |charge| charge.since.elapsed() >= IN_FLIGHT).collect()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.lock().is_empty()
    }
}
