//! Transactions of several conditions and operations.

use bytes::Bytes;
use rusqlite::Connection;

use super::{
    grant,
    op::Outcome,
    query::{self, Refusal},
    schema::Position,
    transaction::{Ends, Latest, Writing},
};
use crate::{Compare, Error, Event, KeyValue, LeaseId, Txn, TxnOp, TxnResponse, TxnResult};

/// Executes a transaction within the writer's, which others share: so one that is refused half way is taken back to
/// where it began.
pub(super) fn apply(writing: &mut Writing, txn: Txn) -> rusqlite::Result<Outcome> {
    let succeeded = holds(writing.conn, writing.position, &txn.compare);
    let (succeeded, ops) = match succeeded {
        Ok(true) => (true, txn.success),
        Ok(false) => (false, txn.failure),
        Err(Refusal::Refused(error)) => return Ok(Outcome::Refused(error)),
        Err(Refusal::Sqlite(error)) => return Err(error),
    };
    let begun = writing.position;
    // A single operation is refused before it writes.
    let several = ops.len() > 1;
    if several {
        writing.conn.prepare_cached("SAVEPOINT txn")?.execute([])?;
    }
    let mut events = Vec::new();
    let results = ops.into_iter().map(|op| execute(writing, op, &mut events)).collect::<Result<Vec<_>, Refusal>>();
    let outcome = match results {
        Ok(results) => {
            let response = TxnResponse { revision: writing.position.current, succeeded, results };
            Outcome::Txn { response, events }
        }
        Err(Refusal::Sqlite(error)) => return Err(error),
        Err(Refusal::Refused(error)) => {
            if several {
                writing.conn.prepare_cached("ROLLBACK TO txn")?.execute([])?;
            }
            writing.position = begun;
            Outcome::Refused(error)
        }
    };
    if several {
        writing.conn.prepare_cached("RELEASE txn")?.execute([])?;
    }
    Ok(outcome)
}

/// Executes a transaction that writes nothing, on a snapshot.
pub(super) fn read(conn: &Connection, position: Position, txn: &Txn) -> Result<TxnResponse, Refusal> {
    let succeeded = holds(conn, position, &txn.compare)?;
    let ops = if succeeded { &txn.success } else { &txn.failure };
    let mut results = Vec::new();
    for op in ops {
        if let TxnOp::Range { start, end, limit, revision } = op {
            results.push(TxnResult::Range(query::range(conn, position, start, end, *limit, *revision)?));
        }
    }
    Ok(TxnResponse { revision: position.current, succeeded, results })
}

fn holds(conn: &Connection, position: Position, compare: &[Compare]) -> Result<bool, Refusal> {
    for compare in compare {
        let holds = match one_key(compare) {
            true => compare.holds(&query::get(conn, position, &compare.start, 0)?),
            false => compare.holds(&query::range(conn, position, &compare.start, &compare.end, 0, 0)?.kvs),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn one_key(compare: &Compare) -> bool {
    compare.end.strip_prefix(compare.start.as_ref()) == Some(b"\0") && !compare.start.is_empty()
}

fn execute(writing: &mut Writing, op: TxnOp, events: &mut Vec<Event>) -> Result<TxnResult, Refusal> {
    match op {
        TxnOp::Range { start, end, limit, revision } => {
            let range = query::range(writing.conn, writing.position, &start, &end, limit, revision)?;
            Ok(TxnResult::Range(range))
        }
        TxnOp::Put { key, value, lease } => {
            let event = put(writing, key, value, lease)?;
            let previous = match &event {
                Event::Put { previous, .. } => previous.clone(),
                Event::Delete { previous, .. } => Some(previous.clone()),
            };
            events.push(event);
            Ok(TxnResult::Put { previous })
        }
        TxnOp::Delete { start, end } => {
            let kvs = query::range(writing.conn, writing.position, &start, &end, 0, 0)?.kvs;
            for kv in &kvs {
                let latest = Latest::of(writing.conn, &kv.key)?;
                events.extend(writing.delete(latest)?);
            }
            Ok(TxnResult::Delete { previous: kvs })
        }
    }
}

fn put(writing: &mut Writing, key: Bytes, value: Option<Bytes>, lease: Option<LeaseId>) -> Result<Event, Refusal> {
    if key.is_empty() {
        return Err(Refusal::Refused(Error::EmptyKey));
    }
    let latest = Latest::of(writing.conn, &key)?;
    if latest.live.is_none() && (value.is_none() || lease.is_none()) {
        let key = String::from_utf8_lossy(&key).into_owned();
        return Err(Refusal::Refused(Error::KeyNotFound { key }));
    }
    let ends = match lease {
        None => latest.ends,
        Some(0) => Ends::Never,
        Some(id) => match grant::ttl(writing.conn, id)? {
            Some(ttl) => Ends::With { id, ttl },
            None => return Err(Refusal::Refused(Error::LeaseNotFound { id })),
        },
    };
    let kept = |kv: &KeyValue| kv.value.clone();
    let value = value.or_else(|| latest.live.as_ref().map(kept)).unwrap_or_default();
    Ok(writing.put(latest, key, value, ends)?)
}
