//! One write of a caller, and what comes of it.

use bytes::Bytes;

use super::{
    grant, query,
    transaction::{Ends, Latest, Writing},
    txn,
};
use crate::{Error, Event, KeyValue, LeaseId, Revision, Txn, TxnResponse};

/// What to write.
#[derive(Debug)]
pub(super) enum Op {
    /// `lease` is a time to live in seconds.
    Create {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Update {
        key: Bytes,
        expected: Revision,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
        expected: Revision,
    },
    Txn(Txn),
    /// `id` 0: any.
    Grant {
        id: LeaseId,
        ttl: i64,
    },
    Revoke {
        id: LeaseId,
    },
}

/// What came of an [`Op`].
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Event),
    Conflict { key: Bytes, current: Option<KeyValue>, revision: Revision },
    Txn { response: TxnResponse, events: Vec<Event> },
    Granted { id: LeaseId, ttl: i64 },
    Revoked { id: LeaseId, events: Vec<Event>, revision: Revision },
    Refused(Error),
}

impl Outcome {
    /// What happened to keys, in order.
    pub(super) fn events(&self) -> &[Event] {
        match self {
            Outcome::Done(event) => std::slice::from_ref(event),
            Outcome::Txn { events, .. } | Outcome::Revoked { events, .. } => events,
            Outcome::Conflict { .. } | Outcome::Granted { .. } | Outcome::Refused(_) => &[],
        }
    }

    /// The answer to who asked for a write of one key.
    pub(super) fn revision(self) -> Result<Revision, Error> {
        match self {
            Outcome::Done(event) => Ok(event.revision()),
            Outcome::Revoked { revision, .. } => Ok(revision),
            Outcome::Txn { response, .. } => Ok(response.revision),
            Outcome::Granted { .. } => Ok(0),
            Outcome::Conflict { key, current, revision } => Err(Error::Conflict {
                key: String::from_utf8_lossy(&key).into_owned(),
                current: current.map(Box::new),
                revision,
            }),
            Outcome::Refused(error) => Err(error),
        }
    }
}

impl Op {
    /// Does it, or refuses and leaves no trace. An error leaves the transaction in no state to be committed.
    pub(super) fn apply(self, writing: &mut Writing) -> rusqlite::Result<Outcome> {
        match self {
            Op::Create { key, value, lease } => put(writing, key, None, value, lease),
            Op::Update { key, expected, value, lease } => put(writing, key, Some(expected), value, lease),
            Op::Delete { key, expected } => {
                let latest = Latest::of(writing.conn, &key)?;
                if latest.live.as_ref().map(|kv| kv.mod_revision) != Some(expected) {
                    return Ok(conflict(writing, key, latest));
                }
                let deleted = writing.delete(latest)?;
                Ok(deleted.map_or(Outcome::Conflict { key, current: None, revision: expected }, Outcome::Done))
            }
            Op::Txn(txn) => txn::apply(writing, txn),
            Op::Grant { id, ttl } => grant::insert(writing.conn, id, ttl),
            Op::Revoke { id } => {
                if !grant::delete(writing.conn, id)? {
                    return Ok(Outcome::Refused(Error::LeaseNotFound { id }));
                }
                let mut events = Vec::new();
                for key in query::attached(writing.conn, id)? {
                    events.extend(writing.delete(Latest::of(writing.conn, &key)?)?);
                }
                Ok(Outcome::Revoked { id, events, revision: writing.position.current })
            }
        }
    }
}

/// Writes a value if the key is at the revision `expected`; none: if there is no key.
fn put(
    writing: &mut Writing,
    key: Bytes,
    expected: Option<Revision>,
    value: Bytes,
    ttl: i64,
) -> rusqlite::Result<Outcome> {
    let latest = Latest::of(writing.conn, &key)?;
    if latest.live.as_ref().map(|kv| kv.mod_revision) != expected {
        return Ok(conflict(writing, key, latest));
    }
    let ends = if ttl > 0 { Ends::After(ttl) } else { Ends::Never };
    writing.put(latest, key, value, ends).map(Outcome::Done)
}

fn conflict(writing: &Writing, key: Bytes, latest: Latest) -> Outcome {
    Outcome::Conflict { key, current: latest.live, revision: writing.position.current }
}
