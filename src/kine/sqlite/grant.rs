//! Granted leases. The table says which there are; how long each lives is kept in memory, by the monotonic clock: to
//! keep a lease alive costs no write, and a clock that is set ends none. When the datastore is opened, each lives for
//! its whole time again, as in etcd when a new leader takes over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};

use super::op::Outcome;
use crate::{Error, Lease, LeaseId};

/// The longest time to live, in seconds, as in etcd.
const LONGEST: i64 = 9_000_000_000;
/// When the end of a lease could not be written (a full disk), the time until the next try.
const RETRY: Duration = Duration::from_secs(5);

/// The leases that live.
pub(super) struct Grants(Mutex<State>);

struct State {
    leases: BTreeMap<LeaseId, Grant>,
    /// None ends before this. Keeping one alive only makes its end later.
    next: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Grant {
    ttl: i64,
    ends: Instant,
}

impl Grants {
    /// Takes up the leases that are in the file.
    pub(super) fn open(conn: &Connection) -> rusqlite::Result<Self> {
        let grants = Self(Mutex::new(State { leases: BTreeMap::new(), next: None }));
        let mut statement = conn.prepare("SELECT id, ttl FROM kine_lease_grant")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            grants.add(row.get(0)?, row.get(1)?);
        }
        Ok(grants)
    }

    /// A lease was granted, and lives from now on.
    pub(super) fn add(&self, id: LeaseId, ttl: i64) {
        self.0.lock().insert(id, Grant { ttl, ends: Instant::now() + seconds(ttl) });
    }

    /// A lease was revoked.
    pub(super) fn remove(&self, id: LeaseId) {
        self.0.lock().leases.remove(&id);
    }

    /// Starts its time anew.
    pub(super) fn keep_alive(&self, id: LeaseId) -> Result<Lease, Error> {
        let mut state = self.0.lock();
        let grant = state.leases.get_mut(&id).ok_or(Error::LeaseNotFound { id })?;
        grant.ends = Instant::now() + seconds(grant.ttl);
        Ok(Lease { id, ttl: grant.ttl, remaining: seconds(grant.ttl) })
    }

    pub(super) fn get(&self, id: LeaseId) -> Result<Lease, Error> {
        let Grant { ttl, ends } = *self.0.lock().leases.get(&id).ok_or(Error::LeaseNotFound { id })?;
        Ok(Lease { id, ttl, remaining: ends.saturating_duration_since(Instant::now()) })
    }

    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.0.lock().leases.keys().copied().collect()
    }

    /// How long until [`Grants::take_ended`] is worth a call.
    pub(super) fn wait(&self) -> Option<Duration> {
        Some(self.0.lock().next?.saturating_duration_since(Instant::now()))
    }

    /// The leases whose time has passed. From now on they can't be kept alive.
    pub(super) fn take_ended(&self) -> Vec<(LeaseId, i64)> {
        let now = Instant::now();
        let mut state = self.0.lock();
        if state.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let ended = state.leases.extract_if(.., |_, grant| grant.ends <= now);
        let ended = ended.map(|(id, grant)| (id, grant.ttl)).collect();
        state.next = state.leases.values().map(|grant| grant.ends).min();
        ended
    }

    /// Their end could not be written.
    pub(super) fn put_back(&self, ended: Vec<(LeaseId, i64)>) {
        let mut state = self.0.lock();
        for (id, ttl) in ended {
            state.insert(id, Grant { ttl, ends: Instant::now() + RETRY });
        }
    }
}

impl State {
    fn insert(&mut self, id: LeaseId, grant: Grant) {
        self.next = Some(self.next.map_or(grant.ends, |next| next.min(grant.ends)));
        self.leases.insert(id, grant);
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}

/// Writes down a new lease, with an id of its own if `id` is 0.
pub(super) fn insert(conn: &Connection, id: LeaseId, ttl: i64) -> rusqlite::Result<Outcome> {
    if ttl > LONGEST {
        return Ok(Outcome::Refused(Error::LeaseTooLong { ttl }));
    }
    if id != 0 && self::ttl(conn, id)?.is_some() {
        return Ok(Outcome::Refused(Error::LeaseExists { id }));
    }
    let mut id = id;
    while id == 0 {
        let candidate = rand::random_range(1..=i64::MAX);
        id = if self::ttl(conn, candidate)?.is_none() { candidate } else { 0 };
    }
    let ttl = ttl.max(1);
    conn.prepare_cached("INSERT INTO kine_lease_grant (id, ttl) VALUES (?1, ?2)")?.execute([id, ttl])?;
    Ok(Outcome::Granted { id, ttl })
}

/// Forgets a lease. False if there is none.
pub(super) fn delete(conn: &Connection, id: LeaseId) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM kine_lease_grant WHERE id = ?1")?.execute([id])? > 0)
}

/// The time to live of a lease, if it is there.
pub(super) fn ttl(conn: &Connection, id: LeaseId) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT ttl FROM kine_lease_grant WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()
}
