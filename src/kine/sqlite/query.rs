//! What is read from a snapshot: a key, a range, the events of a stretch of history.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    name::{self, End, Name},
    schema::{Position, version},
};
use crate::{Error, Event, KeyValue, LeaseId, Range, Revision, watch::Stretch};

/// Why a query gives no answer.
pub(super) enum Refusal {
    /// What was asked for can't be had.
    Refused(Error),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Refusal::Sqlite(error)
    }
}

/// The revision to read at, if `asked` (0: now) can be read.
pub(super) fn readable(asked: Revision, position: Position) -> Result<Revision, Refusal> {
    let Position { current, compacted } = position;
    match asked {
        0 => Ok(current),
        _ if asked > current => Err(Refusal::Refused(Error::Future { asked, current })),
        _ if asked < compacted => Err(Refusal::Refused(Error::Compacted { asked, compacted })),
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
        .prepare_cached(concat!(
            "SELECT id, created, create_revision, lease, value, lease_id, ",
            version!("kv"),
            ", deleted FROM kine AS kv INDEXED BY kine_list_query_index
             WHERE name = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1"
        ))?
        .query_row((Name::of(key), revision), |row| {
            if row.get(7)? { Ok(None) } else { key_value(row, 0, key.clone()).map(Some) }
        })
        .optional()?;
    Ok(newest.flatten())
}

/// The keys in `[start, end)` at `revision` (0: now). All are counted; values are read only of those that are returned.
pub(super) fn range(
    conn: &Connection,
    position: Position,
    start: &[u8],
    end: &[u8],
    limit: i64,
    revision: Revision,
) -> Result<Range, Refusal> {
    let revision = readable(revision, position)?;
    if limit <= 0 {
        let mut kvs = Vec::new();
        scan(conn, (start, end), revision, Order::Ascending, |kv| {
            kvs.push(kv);
            true
        })?;
        return Ok(whole(position, kvs));
    }
    let mut values = conn.prepare_cached(concat!(
        "SELECT id, created, create_revision, lease, value, lease_id, ",
        version!("kv"),
        " FROM kine AS kv WHERE id = ?1"
    ))?;
    let (mut kvs, mut count) = (Vec::new(), 0);
    live(conn, start, end, revision, |name, id| {
        let Some(key) = name::key(name) else { return Ok(()) };
        count += 1;
        if count <= limit {
            kvs.push(values.query_row([id], |row| key_value(row, 0, key))?);
        }
        Ok(())
    })?;
    Ok(Range { revision: position.current, kvs, more: count > limit, count })
}

/// The answer to a range request without limit.
pub(super) fn whole(position: Position, kvs: Vec<KeyValue>) -> Range {
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    Range { revision: position.current, kvs, more: false, count }
}

/// The order in which keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// The keys in `[start, end)` at `revision`, by one statement: the index says which rows. With MAX() alone, the other
/// columns are those of the row that has the maximum.
macro_rules! keys_in {
    ($order:literal) => {
        concat!(
            "SELECT kv.id, kv.created, kv.create_revision, kv.lease, kv.value, kv.lease_id, ",
            version!("kv"),
            ", newest.name FROM (
               SELECT name, MAX(id) AS id, deleted FROM kine INDEXED BY kine_list_query_index
               WHERE name >= ?1 AND name < ?2 AND id <= ?3 GROUP BY name ORDER BY name ",
            $order,
            ") AS newest CROSS JOIN kine AS kv ON kv.id = newest.id WHERE NOT newest.deleted"
        )
    };
}

/// Calls `each` with all keys in `[start, end)` at `revision`, until it says that there need be no more.
pub(super) fn scan(
    conn: &Connection,
    (start, end): (&[u8], &[u8]),
    revision: Revision,
    order: Order,
    mut each: impl FnMut(KeyValue) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(match order {
        Order::Ascending => keys_in!("ASC"),
        Order::Descending => keys_in!("DESC"),
    })?;
    let mut rows = statement.query((Name::of(start), End::of(end), revision))?;
    while let Some(row) = rows.next()? {
        if let Some(key) = name::key(row.get_ref(7)?.as_bytes()?)
            && !each(key_value(row, 0, key)?)
        {
            break;
        }
    }
    Ok(())
}

/// Rows of one name that are read in vain before the next name is sought.
const IN_VAIN: u32 = 16;

/// Calls `each` with name and id of the row that each name in `[start, end)` had at `revision`, in the order of names,
/// except of names that were deleted then. Reads the index alone, and of a name with a long history only the beginning.
fn live(
    conn: &Connection,
    start: &[u8],
    end: &[u8],
    revision: Revision,
    mut each: impl FnMut(&[u8], Revision) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(
        "SELECT name, id, deleted FROM kine INDEXED BY kine_list_query_index
         WHERE name >= ?1 AND name < ?2 ORDER BY name, id DESC",
    )?;
    let end = End::of(end);
    let mut rows = statement.query((Name::of(start), &end))?;
    // The name that was found last.
    let mut found = Vec::new();
    let mut in_vain = 0;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_bytes()?;
        if name == found {
            in_vain += 1;
            if in_vain == IN_VAIN {
                // The next name there can be.
                found.push(0);
                drop(rows);
                rows = statement.query((Name::stored(&found), &end))?;
                found.clear();
                in_vain = 0;
            }
            continue;
        }
        let id = row.get(1)?;
        // Newest first: what is later than that is not looked for.
        if id > revision {
            continue;
        }
        found.clear();
        found.extend_from_slice(name);
        in_vain = 0;
        if !row.get(2)? {
            each(name, id)?;
        }
    }
    Ok(())
}

/// The keys whose newest row is attached to the lease `id`, in key order.
pub(super) fn attached(conn: &Connection, id: LeaseId) -> rusqlite::Result<Vec<Bytes>> {
    let mut statement = conn.prepare_cached(
        "SELECT name FROM kine AS kv INDEXED BY kine_lease_id_index WHERE lease_id = ?1 AND lease_id > 0
           AND NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = kv.name AND newer.id > kv.id)
         ORDER BY name",
    )?;
    let keys = statement.query_map([id], |row| Ok(name::key(row.get_ref(0)?.as_bytes()?)))?;
    keys.filter_map(Result::transpose).collect()
}

/// A row's value for `key`, in seven columns from `first` on: id, created, create_revision, lease, value, lease_id and
/// version.
pub(super) fn key_value(row: &Row, first: usize, key: Bytes) -> rusqlite::Result<KeyValue> {
    let id = row.get(first)?;
    Ok(KeyValue {
        key,
        value: bytes(row, first + 4)?.unwrap_or_default(),
        create_revision: if row.get(first + 1)? { id } else { row.get(first + 2)? },
        mod_revision: id,
        version: row.get(first + 6)?,
        lease: lease(row, first + 3, first + 5)?,
    })
}

/// The id of the lease it is attached to, or its time to live, or 0.
fn lease(row: &Row, ttl: usize, id: usize) -> rusqlite::Result<i64> {
    let id = row.get::<_, Option<LeaseId>>(id)?.filter(|id| *id != 0);
    Ok(id.or(row.get(ttl)?).unwrap_or(0))
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
        return Err(Refusal::Refused(Error::Compacted { asked: after, compacted }));
    }
    // By id, not by an index on the name: few rows come after `after`, and they are wanted in this order.
    let mut statement = conn.prepare_cached(concat!(
        "SELECT kv.id, kv.created, kv.create_revision, kv.lease, kv.value, kv.lease_id, ",
        version!("kv"),
        ", kv.name, kv.deleted, kv.prev_revision,
           prev.created, prev.create_revision, prev.lease, prev.value, prev.lease_id, ",
        version!("prev"),
        ", kv.old_value
         FROM kine AS kv NOT INDEXED LEFT JOIN kine AS prev ON prev.id = kv.prev_revision
         WHERE kv.id > ?1 AND kv.name >= ?2 AND kv.name < ?3 ORDER BY kv.id LIMIT ?4"
    ))?;
    let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query((after, Name::of(start), End::of(end), limit_rows))?;
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
    let Some(key) = name::key(row.get_ref(7)?.as_bytes_or_null()?.unwrap_or_default()) else { return Ok(None) };
    let kv = key_value(row, 0, key)?;
    if row.get(1)? {
        return Ok(Some(Event::Put { kv, previous: None }));
    }
    let superseded = row.get(9)?;
    let previous = KeyValue {
        key: kv.key.clone(),
        // Where the superseded row is missing, kine's own copy.
        value: bytes(row, 13)?.or(bytes(row, 16)?).unwrap_or_default(),
        create_revision: match row.get(10)? {
            Some(true) => superseded,
            Some(false) => row.get(11)?,
            None => kv.create_revision,
        },
        mod_revision: superseded,
        version: row.get::<_, i64>(15)?.max(1),
        lease: lease(row, 12, 14)?,
    };
    Ok(Some(if row.get(8)? {
        Event::Delete { revision: kv.mod_revision, previous }
    } else {
        Event::Put { kv, previous: Some(previous) }
    }))
}

pub(super) fn bytes(row: &Row, column: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get_ref(column)?.as_bytes_or_null()?.map(Bytes::copy_from_slice))
}
