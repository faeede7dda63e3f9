//! Does what a caller asked for on a [`View`].

use bytes::Bytes;

use super::{
    driver::Driver,
    view::{Needs, View},
};
use crate::{
    Error, LeaseId, Range, Revision, Txn, TxnOp, TxnResponse, TxnResult,
    op::{Ends, Op, Outcome},
};

/// The longest time to live, in seconds, as in etcd.
const LONGEST: i64 = 9_000_000_000;

/// Why a write can't be stored in such a database, before anything is asked of it.
pub(super) fn check(driver: &dyn Driver, op: &Op) -> Result<(), Error> {
    let check = |key: &Bytes| match driver.refuses(key) {
        _ if key.is_empty() => Err(Error::EmptyKey),
        Some(why) => {
            let (key, server) = (String::from_utf8_lossy(key).into_owned(), driver.server().to_owned());
            Err(Error::InvalidKey { key, server, why })
        }
        None => Ok(()),
    };
    match op {
        Op::Create { key, .. } | Op::Update { key, .. } | Op::Delete { key, .. } => check(key),
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            TxnOp::Put { key, .. } => check(key),
            TxnOp::Range { .. } | TxnOp::Delete { .. } => Ok(()),
        }),
        Op::Grant { .. } | Op::Revoke { .. } => Ok(()),
    }
}

/// What must be known of the tables to do it.
pub(super) fn needs(driver: &dyn Driver, op: &Op, needs: &mut Needs) {
    match op {
        Op::Create { key, .. } | Op::Update { key, .. } | Op::Delete { key, .. } => needs.keys.push(key.clone()),
        Op::Grant { id, .. } => needs.leases.push(*id),
        Op::Revoke { id } => {
            needs.leases.push(*id);
            needs.revoked.push(*id);
        }
        Op::Txn(txn) => {
            for compare in &txn.compare {
                needs.range(driver, &compare.start, &compare.end);
            }
            for op in txn.success.iter().chain(&txn.failure) {
                match op {
                    TxnOp::Put { key, lease, .. } => {
                        needs.keys.push(key.clone());
                        needs.leases.extend(lease);
                    }
                    TxnOp::Delete { start, end } | TxnOp::Range { start, end, revision: 0, .. } => {
                        needs.range(driver, start, end);
                    }
                    TxnOp::Range { .. } => {}
                }
            }
        }
    }
}

/// Answers to ranges of the past, which were read before: in the order of the transaction's operations, those of
/// `success` before those of `failure`.
pub(super) type Past = Vec<Result<Range, Error>>;

/// Does it, or refuses and leaves no trace.
pub(super) fn apply(view: &mut View, op: Op, past: Past) -> Outcome {
    match op {
        Op::Create { key, value, lease } => put(view, key, None, value, lease),
        Op::Update { key, expected, value, lease } => put(view, key, Some(expected), value, lease),
        Op::Delete { key, expected } => {
            let current = view.latest(&key).live;
            if current.as_ref().map(|kv| kv.mod_revision) != Some(expected) {
                return Outcome::Conflict { key, current, revision: view.position.current };
            }
            let deleted = view.delete(&key);
            deleted.map_or(Outcome::Conflict { key, current, revision: expected }, Outcome::Done)
        }
        Op::Txn(txn) => apply_txn(view, txn, past),
        Op::Grant { id, ttl } => grant(view, id, ttl),
        Op::Revoke { id } => {
            if !matches!(view.leases.get(&id), Some(Some(_))) {
                return Outcome::Refused(Error::LeaseNotFound { id });
            }
            view.leases.insert(id, None);
            view.granted.insert(id, None);
            let events = view.attached(id).iter().filter_map(|key| view.delete(key)).collect();
            Outcome::Revoked { id, events, revision: view.position.current }
        }
    }
}

/// Writes a value if the key is at the revision `expected`; none: if there is no key.
fn put(view: &mut View, key: Bytes, expected: Option<Revision>, value: Bytes, ttl: i64) -> Outcome {
    let current = view.latest(&key).live;
    if current.as_ref().map(|kv| kv.mod_revision) != expected {
        return Outcome::Conflict { key, current, revision: view.position.current };
    }
    let ends = if ttl > 0 { Ends::After(ttl) } else { Ends::Never };
    Outcome::Done(view.put(key, value, ends))
}

fn grant(view: &mut View, id: LeaseId, ttl: i64) -> Outcome {
    if ttl > LONGEST {
        return Outcome::Refused(Error::LeaseTooLong { ttl });
    }
    if matches!(view.leases.get(&id), Some(Some(_))) {
        return Outcome::Refused(Error::LeaseExists { id });
    }
    let ttl = ttl.max(1);
    view.leases.insert(id, Some(ttl));
    view.granted.insert(id, Some(ttl));
    Outcome::Granted { id, ttl }
}

fn apply_txn(view: &mut View, txn: Txn, past: Past) -> Outcome {
    let succeeded = txn.compare.iter().all(|compare| compare.holds(&view.range(&compare.start, &compare.end)));
    let of_the_past = |ops: &[TxnOp]| ops.iter().filter(|op| is_past(op)).count();
    let skipped = if succeeded { 0 } else { of_the_past(&txn.success) };
    let mut past = past.into_iter().skip(skipped);
    let savepoint = view.savepoint();
    let before = view.events.len();
    let mut results = Vec::new();
    for op in if succeeded { txn.success } else { txn.failure } {
        match execute(view, op, &mut past) {
            Ok(result) => results.push(result),
            Err(error) => {
                view.rollback_to(savepoint);
                return Outcome::Refused(error);
            }
        }
    }
    let events = view.events[before..].to_vec();
    let response = TxnResponse { revision: view.position.current, succeeded, results };
    Outcome::Txn { response, events }
}

/// Whether it asks for an older revision.
pub(super) fn is_past(op: &TxnOp) -> bool {
    matches!(op, TxnOp::Range { revision, .. } if *revision != 0)
}

fn execute(
    view: &mut View,
    op: TxnOp,
    past: &mut impl Iterator<Item = Result<Range, Error>>,
) -> Result<TxnResult, Error> {
    if is_past(&op) {
        let missing = || Error::Backend { doing: "read the past in a transaction", detail: "it was not read".into() };
        return past.next().unwrap_or_else(|| Err(missing())).map(TxnResult::Range);
    }
    match op {
        TxnOp::Range { start, end, limit, .. } => Ok(TxnResult::Range(view.answer(&start, &end, limit))),
        TxnOp::Put { key, value, lease } => {
            let latest = view.latest(&key);
            if latest.live.is_none() && (value.is_none() || lease.is_none()) {
                return Err(Error::KeyNotFound { key: String::from_utf8_lossy(&key).into_owned() });
            }
            let ends = match lease {
                None => latest.ends,
                Some(0) => Ends::Never,
                Some(id) => match view.leases.get(&id) {
                    Some(Some(ttl)) => Ends::With { id, ttl: *ttl },
                    _ => return Err(Error::LeaseNotFound { id }),
                },
            };
            let value = value.or_else(|| latest.live.as_ref().map(|kv| kv.value.clone())).unwrap_or_default();
            view.put(key, value, ends);
            Ok(TxnResult::Put { previous: latest.live })
        }
        TxnOp::Delete { start, end } => {
            let previous = view.range(&start, &end);
            for kv in &previous {
                view.delete(&kv.key);
            }
            Ok(TxnResult::Delete { previous })
        }
    }
}
