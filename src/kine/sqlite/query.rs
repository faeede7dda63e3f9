//! What is read from a snapshot: a key, a range, the events of a stretch of history.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    name::{self, Name},
    schema::Position,
};
use crate::{Error, Event, KeyValue, Range, Revision};

/// Why a query gives no answer.
pub(super) enum Refusal {
    /// The revision can't be read.
    Revision(Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Refusal::Sqlite(error)
    }
}

/// The revision to read at, if `asked` (0: now) can be read.
fn readable(asked: Revision, position: Position) -> Result<Revision, Refusal> {
    let Position { current, compacted } = position;
    match asked {
        0 => Ok(current),
        _ if asked > current => Err(Refusal::Revision(Error::Future { asked, current })),
        _ if asked < compacted => Err(Refusal::Revision(Error::Compacted { asked, compacted })),
        _ => Ok(asked),
    }
}

/// The key at `revision` (0: now).
pub(super) fn get(
    conn: &Connection,
    position: Position,
    key: &Bytes,
    revision: Revision,
) -> Result<Option<KeyValue>, Refusal> {
    let revision = readable(revision, position)?;
    let newest = conn
        .prepare_cached(
            "SELECT id, deleted FROM kine INDEXED BY kine_list_query_index
             WHERE name = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row((Name(key), revision), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match newest {
        Some((id, false)) if !name::internal(key) => Ok(Some(value(conn, key.clone(), id)?)),
        _ => Ok(None),
    }
}

/// The keys in `[start, end)` at `revision` (0: now). All are counted, in the index alone; values are read only of
/// those that are returned.
pub(super) fn range(
    conn: &Connection,
    position: Position,
    start: &[u8],
    end: &[u8],
    limit: i64,
    revision: Revision,
) -> Result<Range, Refusal> {
    let revision = readable(revision, position)?;
    // With MAX() alone, the other columns are those of the row that has the maximum.
    let mut newest = conn.prepare_cached(
        "SELECT name, MAX(id), deleted FROM kine INDEXED BY kine_list_query_index
         WHERE name >= ?1 AND name < ?2 AND id <= ?3 GROUP BY name",
    )?;
    let mut rows = newest.query((Name(&name::bound(start)), Name(&name::bound(end)), revision))?;
    let (mut kvs, mut count) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?;
        if row.get(2)? || name::internal(key) {
            continue;
        }
        count += 1;
        if limit <= 0 || count <= limit {
            kvs.push(value(conn, Bytes::copy_from_slice(key), row.get(1)?)?);
        }
    }
    let more = limit > 0 && count > limit;
    Ok(Range { revision: position.current, kvs, more, count })
}

/// The value that the row `id` gave to `key`.
fn value(conn: &Connection, key: Bytes, id: Revision) -> rusqlite::Result<KeyValue> {
    conn.prepare_cached("SELECT created, create_revision, lease, value FROM kine WHERE id = ?1")?.query_row(
        [id],
        |row| {
            Ok(KeyValue {
                key,
                value: bytes(row, 3)?.unwrap_or_default(),
                create_revision: if row.get(0)? { id } else { row.get(1)? },
                mod_revision: id,
                lease: row.get(2)?,
            })
        },
    )
}

/// A stretch of the history of a range.
pub(super) struct Stretch {
    pub(super) events: Vec<Event>,
    /// Every event up to here has been read.
    pub(super) upto: Revision,
}

/// At most `limit` events on `[start, end)` after `after`.
pub(super) fn events(
    conn: &Connection,
    position: Position,
    start: &[u8],
    end: &[u8],
    after: Revision,
    limit: usize,
) -> Result<Stretch, Refusal> {
    let Position { current, compacted } = position;
    if after < compacted {
        return Err(Refusal::Revision(Error::Compacted { asked: after, compacted }));
    }
    // By id, not by an index on the name: few rows come after `after`, and they are wanted in this order.
    let mut statement = conn.prepare_cached(
        "SELECT kv.id, kv.name, kv.created, kv.deleted, kv.create_revision, kv.lease, kv.value, kv.prev_revision,
                prev.created, prev.create_revision, prev.lease, prev.value, kv.old_value
         FROM kine AS kv NOT INDEXED LEFT JOIN kine AS prev ON prev.id = kv.prev_revision
         WHERE kv.id > ?1 AND kv.name >= ?2 AND kv.name < ?3 ORDER BY kv.id LIMIT ?4",
    )?;
    let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query((after, Name(&name::bound(start)), Name(&name::bound(end)), limit_rows))?;
    let (mut events, mut read, mut upto) = (Vec::new(), 0, after);
    while let Some(row) = rows.next()? {
        read += 1;
        upto = row.get(0)?;
        events.extend(event(row)?);
    }
    if read < limit {
        upto = current;
    }
    Ok(Stretch { events, upto })
}

/// The event of a row of [`events`]; bookkeeping is none.
fn event(row: &Row) -> rusqlite::Result<Option<Event>> {
    let revision = row.get(0)?;
    let key = bytes(row, 1)?.unwrap_or_default();
    if name::internal(&key) {
        return Ok(None);
    }
    if row.get(2)? {
        let kv = KeyValue {
            key,
            value: bytes(row, 6)?.unwrap_or_default(),
            create_revision: revision,
            mod_revision: revision,
            lease: row.get(5)?,
        };
        return Ok(Some(Event::Put { kv, previous: None }));
    }
    let create_revision = row.get(4)?;
    let superseded = row.get(7)?;
    let previous = KeyValue {
        key: key.clone(),
        // Where the superseded row is missing, kine's own copy.
        value: bytes(row, 11)?.or(bytes(row, 12)?).unwrap_or_default(),
        create_revision: match row.get(8)? {
            Some(true) => superseded,
            Some(false) => row.get(9)?,
            None => create_revision,
        },
        mod_revision: superseded,
        lease: row.get::<_, Option<i64>>(10)?.unwrap_or(0),
    };
    if row.get(3)? {
        return Ok(Some(Event::Delete { revision, previous }));
    }
    let kv = KeyValue {
        key,
        value: bytes(row, 6)?.unwrap_or_default(),
        create_revision,
        mod_revision: revision,
        lease: row.get(5)?,
    };
    Ok(Some(Event::Put { kv, previous: Some(previous) }))
}

fn bytes(row: &Row, column: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get_ref(column)?.as_bytes_or_null()?.map(Bytes::copy_from_slice))
}
