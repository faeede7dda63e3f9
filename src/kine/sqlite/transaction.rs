//! One write within the writer's transaction: compare, then append a row.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::{lease, name::Name};
use crate::{Error, Event, KeyValue, Revision};

/// What to write, if the key is as expected.
#[derive(Debug)]
pub(super) enum Op {
    Create { key: Bytes, value: Bytes, lease: i64 },
    Update { key: Bytes, expected: Revision, value: Bytes, lease: i64 },
    Delete { key: Bytes, expected: Revision },
}

/// What came of an [`Op`].
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Event),
    Conflict { key: Bytes, current: Option<KeyValue>, revision: Revision },
}

impl Outcome {
    /// What happened, if something did.
    pub(super) fn event(&self) -> Option<&Event> {
        match self {
            Outcome::Done(event) => Some(event),
            Outcome::Conflict { .. } => None,
        }
    }

    /// The answer to the caller, once the transaction is on disk.
    pub(super) fn answer(self) -> Result<Revision, Error> {
        match self {
            Outcome::Done(event) => Ok(event.revision()),
            Outcome::Conflict { key, current, revision } => Err(Error::Conflict {
                key: String::from_utf8_lossy(&key).into_owned(),
                current: current.map(Box::new),
                revision,
            }),
        }
    }
}

impl Op {
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Op::Create { key, .. } | Op::Update { key, .. } | Op::Delete { key, .. } => key,
        }
    }

    /// Appends the row for this write at the revision after `current`, unless the key is not as expected. `now` is in
    /// milliseconds since the epoch.
    pub(super) fn apply(&self, conn: &Connection, current: Revision, now: i64) -> rusqlite::Result<Outcome> {
        let latest = Latest::of(conn, self.key())?;
        let fits = match self {
            Op::Create { .. } => latest.live.is_none(),
            Op::Update { expected, .. } | Op::Delete { expected, .. } => {
                latest.live.as_ref().is_some_and(|kv| kv.mod_revision == *expected)
            }
        };
        if !fits {
            return Ok(Outcome::Conflict { key: self.key().clone(), current: latest.live, revision: current });
        }

        let revision = current + 1;
        if let Some(superseded) = latest.live.as_ref().filter(|kv| kv.lease > 0) {
            lease::forget(conn, superseded.mod_revision)?;
        }
        let event = match (self, latest.live) {
            (Op::Delete { .. }, Some(previous)) => Event::Delete { revision, previous },
            (Op::Delete { key, .. }, None) => {
                return Ok(Outcome::Conflict { key: key.clone(), current: None, revision: current });
            }
            (Op::Create { key, value, lease } | Op::Update { key, value, lease, .. }, previous) => {
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
                    mod_revision: revision,
                    lease: (*lease).max(0),
                };
                Event::Put { kv, previous }
            }
        };
        append(conn, &event, latest.row)?;
        if let Event::Put { kv, .. } = &event
            && kv.lease > 0
        {
            lease::remember(conn, revision, lease::end(now, kv.lease))?;
        }
        Ok(Outcome::Done(event))
    }
}

/// The newest row of a key.
struct Latest {
    /// Its revision, be it a value or a deletion; 0 if there is none.
    row: Revision,
    /// The key, unless the newest row deleted it.
    live: Option<KeyValue>,
}

impl Latest {
    fn of(conn: &Connection, key: &Bytes) -> rusqlite::Result<Self> {
        let latest = conn
            .prepare_cached(
                "SELECT id, created, deleted, create_revision, lease, value FROM kine INDEXED BY kine_list_query_index
                 WHERE name = ?1 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([Name(key)], |row| {
                let id = row.get(0)?;
                if row.get::<_, bool>(2)? {
                    return Ok(Latest { row: id, live: None });
                }
                let create_revision = if row.get::<_, bool>(1)? { id } else { row.get(3)? };
                let value = Bytes::copy_from_slice(row.get_ref(5)?.as_bytes_or_null()?.unwrap_or_default());
                let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: id, lease: row.get(4)? };
                Ok(Latest { row: id, live: Some(kv) })
            })
            .optional()?;
        Ok(latest.unwrap_or(Latest { row: 0, live: None }))
    }
}

fn append(conn: &Connection, event: &Event, superseded: Revision) -> rusqlite::Result<()> {
    let (created, deleted, create_revision, lease, value) = match event {
        Event::Put { kv, previous: None } => (true, false, 0, kv.lease, Some(kv.value.as_ref())),
        Event::Put { kv, previous: Some(_) } => (false, false, kv.create_revision, kv.lease, Some(kv.value.as_ref())),
        Event::Delete { previous, .. } => (false, true, previous.create_revision, 0, None),
    };
    conn.prepare_cached(
        "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        event.revision(),
        Name(event.key()),
        created,
        deleted,
        create_revision,
        superseded,
        lease,
        value,
    ))?;
    Ok(())
}
