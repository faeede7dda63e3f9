//! Keys with a time to live. To etcd that is a lease which nobody keeps alive.
//!
//! A lease is a lot for one key: etcd agrees on it, stores it, and ends each by itself. So those with the same time to
//! live are used for all keys that are written within a twentieth of it, as the API server of Kubernetes does; they
//! are granted that much longer.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::proto::{PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse};
use parking_lot::Mutex;

use super::{
    cluster::{Cluster, Repeat},
    failure::{Failure, Refusal},
    method,
};
use crate::LeaseId;

/// The longest that a lease is used for new keys, in seconds, and the most of them, as in Kubernetes.
const LONGEST: i64 = 60;
const MOST_KEYS: u32 = 1000;

/// The leases for keys with a time to live.
pub(super) struct Ends {
    cluster: Arc<Cluster>,
    /// The one in use for each time to live in seconds.
    shared: Mutex<HashMap<i64, Shared>>,
}

struct Shared {
    id: LeaseId,
    until: Instant,
    keys: u32,
}

/// The lease for one write.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) id: LeaseId,
    /// The time to live it is shared for; none if it is for this write alone.
    shared: Option<i64>,
}

impl Ends {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, shared: Mutex::default() }
    }

    /// A lease for a key that is written now, with a time to live in seconds.
    pub(super) async fn take(&self, ttl: i64) -> Result<End, Failure> {
        let extra = (ttl / 20).min(LONGEST);
        if let Some(shared) = self.shared.lock().get_mut(&ttl)
            && shared.until > Instant::now()
            && shared.keys < MOST_KEYS
        {
            shared.keys += 1;
            return Ok(End { id: shared.id, shared: Some(ttl) });
        }
        let asked = Instant::now();
        let grant = PbLeaseGrantRequest { ttl: ttl.saturating_add(extra), id: 0 };
        // A lease that was granted and is not known here ends by itself.
        let granted: PbLeaseGrantResponse = self.cluster.ask(method::LEASE_GRANT, grant, Repeat::Always).await?;
        if extra == 0 {
            return Ok(End { id: granted.id, shared: None });
        }
        let until = asked + Duration::from_secs(extra.unsigned_abs());
        self.shared.lock().insert(ttl, Shared { id: granted.id, until, keys: 1 });
        Ok(End { id: granted.id, shared: Some(ttl) })
    }

    /// The write was not done: a lease that only it would have used is revoked.
    pub(super) async fn give_back(&self, end: End) {
        if let Some(ttl) = end.shared {
            if let Some(shared) = self.shared.lock().get_mut(&ttl).filter(|shared| shared.id == end.id) {
                shared.keys = shared.keys.saturating_sub(1);
            }
            return;
        }
        let revoke = PbLeaseRevokeRequest { id: end.id };
        let revoked: Result<PbLeaseRevokeResponse, _> =
            self.cluster.ask(method::LEASE_REVOKE, revoke, Repeat::Always).await;
        if let Err(error) = revoked
            && error != Failure::Refused(Refusal::LeaseNotFound)
        {
            tracing::debug!(%error, "a lease that nothing uses ends only with its time");
        }
    }

    /// The lease is not there any more: somebody has revoked it.
    pub(super) fn gone(&self, end: End) {
        self.shared.lock().retain(|_, shared| shared.id != end.id);
    }
}
