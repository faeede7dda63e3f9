//! What the writer does within its transaction: reads the newest row of a key, and appends one.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::{
    lease,
    name::Name,
    query::key_value,
    schema::{Position, version},
};
pub(super) use crate::op::Ends;
use crate::{Event, KeyValue, LeaseId, Revision};

/// The writer's open transaction.
pub(super) struct Writing<'a> {
    pub(super) conn: &'a Connection,
    /// With the rows that were appended so far.
    pub(super) position: Position,
    /// Milliseconds since the epoch.
    pub(super) now: i64,
    /// When the first of the keys ends that were written with a time to live, in milliseconds since the epoch.
    pub(super) first_end: Option<i64>,
}

/// The newest row of a key.
pub(super) struct Latest {
    /// Its revision, be it a value or a deletion; 0 if there is none.
    row: Revision,
    /// The key, unless the newest row deleted it.
    pub(super) live: Option<KeyValue>,
    pub(super) ends: Ends,
}

impl Latest {
    pub(super) fn of(conn: &Connection, key: &Bytes) -> rusqlite::Result<Self> {
        let latest = conn
            .prepare_cached(concat!(
                "SELECT id, created, create_revision, lease, value, lease_id, ",
                version!("kv"),
                ", deleted FROM kine AS kv INDEXED BY kine_list_query_index WHERE name = ?1 ORDER BY id DESC LIMIT 1"
            ))?
            .query_row([Name::of(key)], |row| {
                let id = row.get(0)?;
                if row.get::<_, bool>(7)? {
                    return Ok(Latest { row: id, live: None, ends: Ends::Never });
                }
                let ttl = row.get(3)?;
                let ends = match row.get::<_, Option<LeaseId>>(5)?.unwrap_or(0) {
                    0 if ttl > 0 => Ends::After(ttl),
                    0 => Ends::Never,
                    id => Ends::With { id, ttl },
                };
                Ok(Latest { row: id, live: Some(key_value(row, 0, key.clone())?), ends })
            })
            .optional()?;
        Ok(latest.unwrap_or(Latest { row: 0, live: None, ends: Ends::Never }))
    }
}

impl Writing<'_> {
    /// Writes a value after the row `latest` of the same key.
    pub(super) fn put(&mut self, latest: Latest, key: Bytes, value: Bytes, ends: Ends) -> rusqlite::Result<Event> {
        let revision = self.supersede(&latest)?;
        let previous = latest.live;
        let kv = KeyValue {
            key,
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
        let event = Event::Put { kv, previous };
        self.append(&event, latest.row, ends)?;
        if let Ends::After(ttl) = ends {
            let end = lease::end(self.now, ttl);
            lease::remember(self.conn, revision, end)?;
            self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
        }
        Ok(event)
    }

    /// Deletes the key whose newest row is `latest`; nothing if there is no key.
    pub(super) fn delete(&mut self, latest: Latest) -> rusqlite::Result<Option<Event>> {
        if latest.live.is_none() {
            return Ok(None);
        }
        let revision = self.supersede(&latest)?;
        let Some(previous) = latest.live else { return Ok(None) };
        let event = Event::Delete { revision, previous };
        self.append(&event, latest.row, Ends::Never)?;
        Ok(Some(event))
    }

    /// Takes the next revision; the end of the row before it means nothing any more.
    fn supersede(&mut self, latest: &Latest) -> rusqlite::Result<Revision> {
        if let (Ends::After(_), Some(kv)) = (latest.ends, &latest.live) {
            lease::forget(self.conn, kv.mod_revision)?;
        }
        self.position.current += 1;
        Ok(self.position.current)
    }

    fn append(&self, event: &Event, superseded: Revision, ends: Ends) -> rusqlite::Result<()> {
        let (created, deleted, create_revision, version, value) = match event {
            Event::Put { kv, previous: None } => (true, false, 0, kv.version, Some(kv.value.as_ref())),
            Event::Put { kv, .. } => (false, false, kv.create_revision, kv.version, Some(kv.value.as_ref())),
            Event::Delete { previous, .. } => (false, true, previous.create_revision, 0, None),
        };
        let (ttl, lease_id) = match ends {
            Ends::Never => (0, None),
            Ends::After(ttl) => (ttl, None),
            Ends::With { id, ttl } => (ttl, Some(id)),
        };
        self.conn
            .prepare_cached(
                "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, version,
                   lease_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                event.revision(),
                Name::of(event.key()),
                created,
                deleted,
                create_revision,
                superseded,
                ttl,
                value,
                version,
                lease_id,
            ))?;
        Ok(())
    }
}
