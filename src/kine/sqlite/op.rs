//! Does what a caller asked for within the writer's transaction.

use bytes::Bytes;

use super::{
    grant, query,
    transaction::{Latest, Writing},
    txn,
};
pub(super) use crate::op::{Op, Outcome};
use crate::{Error, Revision, op::Ends};

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
