//! Lists without a limit. A long one is read by two readers, from its two ends, until they meet: so it takes half the time
//! where a processor is free, and as long as before where none is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{Builder, Scope, ScopedJoinHandle},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::{
    query::{self, Order, Refusal},
    reader::Readers,
    schema::Position,
};
use crate::{KeyValue, Range, Revision};

/// Keys that are read before another reader is woken.
const ALONE: usize = 512;
/// Keys between two looks at how far the other one has come.
const PIECE: usize = 64;

/// How far the readers have come. Each has all keys on its side, with the one that is named.
#[derive(Default)]
struct Met {
    low: Mutex<Option<Bytes>>,
    high: Mutex<Option<Bytes>>,
    given_up: AtomicBool,
}

/// The keys in `[start, end)` at `revision` (0: now).
pub(super) fn list(
    readers: &Readers,
    conn: &Connection,
    position: Position,
    (start, end): (&[u8], &[u8]),
    revision: Revision,
) -> Result<Range, Refusal> {
    let revision = query::readable(revision, position)?;
    let met = Met::default();
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut whole = true;
    let rest = std::thread::scope(|scope| {
        let mut other = None;
        let read = query::scan(conn, (start, end), revision, Order::Ascending, |kv| {
            if kvs.len().is_multiple_of(PIECE) && met.high.lock().as_ref().is_some_and(|high| kv.key >= *high) {
                whole = false;
                return false;
            }
            kvs.push(kv);
            if kvs.len() == ALONE {
                other = wake(scope, readers, &met, (start, end), revision);
            } else if kvs.len().is_multiple_of(PIECE) {
                *met.low.lock() = kvs.last().map(|kv| kv.key.clone());
            }
            true
        });
        met.given_up.store(read.is_err(), Ordering::Relaxed);
        read.map(|()| other.map(ScopedJoinHandle::join))
    })?;
    match rest {
        Some(Ok(Some(rest))) => append(&mut kvs, rest),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        // It could not go on: what it said that it has, it has not.
        Some(Ok(None)) | None if !whole => {
            let next = kvs.last().map_or_else(|| start.to_vec(), |kv| [&kv.key, &b"\0"[..]].concat());
            query::scan(conn, (&next, end), revision, Order::Ascending, |kv| {
                kvs.push(kv);
                true
            })?;
        }
        Some(Ok(None)) | None => {}
    }
    Ok(query::whole(position, kvs))
}

/// Has another reader read from the end, if one is free.
fn wake<'scope>(
    scope: &'scope Scope<'scope, '_>,
    readers: &'scope Readers,
    met: &'scope Met,
    bounds: (&'scope [u8], &'scope [u8]),
    revision: Revision,
) -> Option<ScopedJoinHandle<'scope, Option<Vec<KeyValue>>>> {
    let read = move || {
        let read = readers.beside(|conn, position| from_the_end(conn, position, met, bounds, revision));
        match read? {
            Ok((_, kvs)) => kvs,
            // The other one reads it as well, and reports what is wrong.
            Err(_) => None,
        }
    };
    // Without another thread it is as it is with one that gets no processor.
    Builder::new().name("kine-reader".into()).spawn_scoped(scope, read).ok()
}

/// The keys from the end down to where the other reader is; none if this snapshot, which is a later one, has forgotten
/// `revision`.
fn from_the_end(
    conn: &Connection,
    position: Position,
    met: &Met,
    bounds: (&[u8], &[u8]),
    revision: Revision,
) -> Result<Option<Vec<KeyValue>>, Refusal> {
    if position.compacted > revision {
        return Ok(None);
    }
    let mut kvs: Vec<KeyValue> = Vec::new();
    query::scan(conn, bounds, revision, Order::Descending, |kv| {
        if kvs.len().is_multiple_of(PIECE) {
            *met.high.lock() = kvs.last().map(|kv| kv.key.clone());
            if met.given_up.load(Ordering::Relaxed) || met.low.lock().as_ref().is_some_and(|low| kv.key <= *low) {
                return false;
            }
        }
        kvs.push(kv);
        true
    })?;
    Ok(Some(kvs))
}

/// Adds the keys that were read from the end; some may have been read by both.
fn append(kvs: &mut Vec<KeyValue>, mut rest: Vec<KeyValue>) {
    if let Some(lowest) = rest.last() {
        let own = kvs.partition_point(|kv| kv.key < lowest.key);
        kvs.truncate(own);
    }
    rest.reverse();
    kvs.append(&mut rest);
}
