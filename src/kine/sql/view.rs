//! The state that a transaction works on: what was read of the tables at its begin, with what it has written since.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::{
    driver::Driver,
    failure::Failure,
    query,
    statement::{Entry, NewRow, Row},
};
use crate::{Event, KeyValue, LeaseId, Range, Revision, UNBOUNDED, op::Ends, watch::Position};

/// The newest row of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest {
    /// Its revision, be it a value or a deletion; 0 if there is none.
    row: Revision,
    /// The key, unless the newest row deleted it.
    pub(super) live: Option<KeyValue>,
    pub(super) ends: Ends,
}

impl Latest {
    fn of(entry: Entry) -> Self {
        let row = entry.kv.mod_revision;
        let ends = match entry.lease_id {
            _ if entry.deleted => Ends::Never,
            0 if entry.ttl > 0 => Ends::After(entry.ttl),
            0 => Ends::Never,
            id => Ends::With { id, ttl: entry.ttl },
        };
        Self { row, live: (!entry.deleted).then_some(entry.kv), ends }
    }
}

/// What is known of the tables, and what is to be written to them.
#[derive(Debug)]
pub(super) struct View {
    /// With what was written so far.
    pub(super) position: Position,
    /// Where it began.
    pub(super) begun: Position,
    keys: BTreeMap<Bytes, Latest>,
    pub(super) leases: BTreeMap<LeaseId, Option<i64>>,
    /// Keys attached to leases that are to be revoked, as they were read.
    attached: HashMap<LeaseId, Vec<Bytes>>,
    pub(super) rows: Vec<NewRow>,
    pub(super) events: Vec<Event>,
    /// Rows whose time to live means nothing any more.
    pub(super) superseded: Vec<Revision>,
    /// Leases to write down with their time to live, and (none) to forget.
    pub(super) granted: BTreeMap<LeaseId, Option<i64>>,
}

/// Where a view was, to go back to.
pub(super) struct Savepoint {
    position: Position,
    rows: usize,
    events: usize,
    superseded: usize,
    keys: BTreeMap<Bytes, Latest>,
}

impl View {
    pub(super) fn new(position: Position) -> Self {
        Self {
            position,
            begun: position,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            attached: HashMap::new(),
            rows: Vec::new(),
            events: Vec::new(),
            superseded: Vec::new(),
            granted: BTreeMap::new(),
        }
    }

    /// Takes in rows that were read: the newest of their keys.
    pub(super) fn learn(&mut self, driver: &dyn Driver, rows: &[Row]) -> Result<(), Failure> {
        for row in rows {
            if let Some(entry) = Entry::of(driver, row, 0)? {
                self.keys.insert(entry.kv.key.clone(), Latest::of(entry));
            }
        }
        Ok(())
    }

    pub(super) fn learn_attached(&mut self, driver: &dyn Driver, id: LeaseId, rows: &[Row]) -> Result<(), Failure> {
        self.learn(driver, rows)?;
        self.attached.insert(id, query::keys(driver, rows)?);
        Ok(())
    }

    pub(super) fn latest(&self, key: &Bytes) -> Latest {
        self.keys.get(key).cloned().unwrap_or_default()
    }

    /// The keys there are in `[start, end)`, of those that were read or written.
    pub(super) fn range(&self, start: &Bytes, end: &Bytes) -> Vec<KeyValue> {
        let inside = self.keys.range(start.clone()..).take_while(|(key, _)| *end == UNBOUNDED || *key < end);
        inside.filter_map(|(_, latest)| latest.live.clone()).collect()
    }

    /// The answer to a range of now.
    pub(super) fn answer(&self, start: &Bytes, end: &Bytes, limit: i64) -> Range {
        let mut kvs = self.range(start, end);
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        Range { revision: self.position.current, kvs, more, count }
    }

    /// The keys attached to a lease now.
    pub(super) fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        let holds = |latest: &Latest| matches!(latest.ends, Ends::With { id: own, .. } if own == id);
        let read = self.attached.get(&id).into_iter().flatten();
        let mut keys: Vec<Bytes> = read.filter(|key| self.keys.get(*key).is_some_and(holds)).cloned().collect();
        keys.extend(self.keys.iter().filter(|(_, latest)| holds(latest)).map(|(key, _)| key.clone()));
        keys.sort();
        keys.dedup();
        keys
    }

    /// Writes a value.
    pub(super) fn put(&mut self, key: Bytes, value: Bytes, ends: Ends) -> Event {
        let latest = self.latest(&key);
        let revision = self.supersede(&latest);
        let previous = latest.live;
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |kv| kv.version + 1),
            lease: match ends {
                Ends::Never => 0,
                Ends::After(ttl) => ttl,
                Ends::With { id, .. } => id,
            },
        };
        let (ttl, lease_id) = match ends {
            Ends::Never => (0, None),
            Ends::After(ttl) => (ttl, None),
            Ends::With { id, ttl } => (ttl, Some(id)),
        };
        self.rows.push(NewRow {
            id: revision,
            key: Some(key.clone()),
            created: previous.is_none(),
            deleted: false,
            create_revision: if previous.is_none() { 0 } else { kv.create_revision },
            prev_revision: latest.row,
            ttl,
            value: Some(kv.value.clone()),
            version: kv.version,
            lease_id,
        });
        self.keys.insert(key, Latest { row: revision, live: Some(kv.clone()), ends });
        let event = Event::Put { kv, previous };
        self.events.push(event.clone());
        event
    }

    /// Deletes a key; nothing if it is not there.
    pub(super) fn delete(&mut self, key: &Bytes) -> Option<Event> {
        let latest = self.latest(key);
        let previous = latest.live.clone()?;
        let revision = self.supersede(&latest);
        self.rows.push(NewRow {
            id: revision,
            key: Some(key.clone()),
            created: false,
            deleted: true,
            create_revision: previous.create_revision,
            prev_revision: latest.row,
            ttl: 0,
            value: None,
            version: 0,
            lease_id: None,
        });
        self.keys.insert(key.clone(), Latest { row: revision, live: None, ends: Ends::Never });
        let event = Event::Delete { revision, previous };
        self.events.push(event.clone());
        Some(event)
    }

    /// Takes the next revision; the end of the row before it means nothing any more.
    fn supersede(&mut self, latest: &Latest) -> Revision {
        if matches!(latest.ends, Ends::After(_)) {
            self.superseded.push(latest.row);
        }
        self.position.current += 1;
        self.position.current
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint {
            position: self.position,
            rows: self.rows.len(),
            events: self.events.len(),
            superseded: self.superseded.len(),
            keys: self.keys.clone(),
        }
    }

    pub(super) fn rollback_to(&mut self, savepoint: Savepoint) {
        self.position = savepoint.position;
        self.rows.truncate(savepoint.rows);
        self.events.truncate(savepoint.events);
        self.superseded.truncate(savepoint.superseded);
        self.keys = savepoint.keys;
    }
}

/// What an operation needs to have read of the tables before it can be done on a [`View`].
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) keys: Vec<Bytes>,
    /// Ranges of now, `[start, end)`.
    pub(super) ranges: Vec<(Bytes, Bytes)>,
    pub(super) leases: Vec<LeaseId>,
    pub(super) revoked: Vec<LeaseId>,
}

impl Needs {
    pub(super) fn range(&mut self, driver: &dyn Driver, start: &Bytes, end: &Bytes) {
        match end.strip_prefix(start.as_ref()) {
            // One key, which may have been deleted: its newest row is wanted all the same.
            Some(b"\0") if !start.is_empty() => {
                if driver.refuses(start).is_none() {
                    self.keys.push(start.clone());
                }
            }
            _ => self.ranges.push((start.clone(), end.clone())),
        }
    }
}
