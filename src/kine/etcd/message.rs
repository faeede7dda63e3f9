//! Questions and answers between etcd's messages and the datastore's types.

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbEvent, PbKeyValue, PbPutRequest, PbRangeRequest, PbRangeResponse, PbTargetUnion,
    PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use crate::{
    Compare, Event, KeyValue, Operator, Range, Revision, Target, Txn, TxnOp, TxnResponse, TxnResult, UNBOUNDED,
};

/// The kind of event of `mvccpb.Event` that is a deletion.
const DELETE: i32 = 1;

impl From<PbKeyValue> for KeyValue {
    fn from(kv: PbKeyValue) -> Self {
        KeyValue {
            key: kv.key.into(),
            value: kv.value.into(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// An event; none if what was before it is missing.
pub(super) fn event(event: PbEvent) -> Option<Event> {
    let kv = KeyValue::from(event.kv?);
    let previous = event.prev_kv.map(KeyValue::from);
    if event.r#type == DELETE {
        return Some(Event::Delete { revision: kv.mod_revision, previous: previous? });
    }
    let created = kv.create_revision == kv.mod_revision;
    (created || previous.is_some()).then_some(Event::Put { kv, previous })
}

/// `key` and `range_end` of `[start, end)`. To etcd an empty key is none at all, and an empty end means one key.
pub(super) fn bounds(start: &Bytes, end: &Bytes) -> (Vec<u8>, Vec<u8>) {
    let first = if start.is_empty() { vec![0] } else { start.to_vec() };
    match end {
        end if end.is_empty() => (vec![1], vec![1]),
        // What is after everything and before the first possible key: without this it would mean all keys.
        end if *end != UNBOUNDED && end.as_ref() <= first.as_slice() => (vec![1], vec![1]),
        end => (first, end.to_vec()),
    }
}

pub(super) fn range_request(start: &Bytes, end: &Bytes, limit: i64, revision: Revision) -> PbRangeRequest {
    let (key, range_end) = bounds(start, end);
    PbRangeRequest { key, range_end, limit: limit.max(0), revision, ..PbRangeRequest::default() }
}

/// The answer to a range request; `revision` is that of the datastore.
pub(super) fn range(answer: PbRangeResponse, revision: Revision) -> Range {
    let kvs = answer.kvs.into_iter().map(KeyValue::from).collect();
    Range { revision, kvs, more: answer.more, count: answer.count }
}

/// The transaction that writes one key, or deletes it, if it is still at a revision (0: not there), and else reads it.
pub(super) fn if_unchanged(key: &Bytes, expected: Revision, write: PbTxnOpRequest) -> PbTxnRequest {
    let compare = PbCompare {
        result: operator(Operator::Equal),
        target: 2,
        key: key.to_vec(),
        target_union: Some(PbTargetUnion::ModRevision(expected)),
        range_end: Vec::new(),
    };
    let read = PbTxnOpRequest::RequestRange(PbRangeRequest { key: key.to_vec(), ..PbRangeRequest::default() });
    let list = |op| vec![PbTxnRequestOp { request: Some(op) }];
    PbTxnRequest { compare: vec![compare], success: list(write), failure: list(read) }
}

/// What the failed branch of [`if_unchanged`] has read.
pub(super) fn found(answer: PbTxnResponse) -> Option<KeyValue> {
    answer.responses.into_iter().find_map(|response| match response.response {
        Some(PbTxnOpResponse::ResponseRange(range)) => range.kvs.into_iter().next().map(KeyValue::from),
        _ => None,
    })
}

pub(super) fn txn_request(txn: &Txn) -> PbTxnRequest {
    let list = |ops: &[TxnOp]| ops.iter().map(|op| PbTxnRequestOp { request: Some(op_request(op)) }).collect();
    PbTxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: list(&txn.success),
        failure: list(&txn.failure),
    }
}

fn op_request(op: &TxnOp) -> PbTxnOpRequest {
    match op {
        TxnOp::Range { start, end, limit, revision } => {
            PbTxnOpRequest::RequestRange(range_request(start, end, *limit, *revision))
        }
        TxnOp::Put { key, value, lease } => PbTxnOpRequest::RequestPut(PbPutRequest {
            key: key.to_vec(),
            value: value.as_deref().unwrap_or_default().to_vec(),
            lease: lease.unwrap_or(0),
            prev_kv: true,
            ignore_value: value.is_none(),
            ignore_lease: lease.is_none(),
        }),
        TxnOp::Delete { start, end } => {
            let (key, range_end) = bounds(start, end);
            PbTxnOpRequest::RequestDeleteRange(PbDeleteRequest { key, range_end, prev_kv: true })
        }
    }
}

fn compare(compare: &Compare) -> PbCompare {
    let (key, range_end) = bounds(&compare.start, &compare.end);
    let (target, union) = match &compare.target {
        Target::Version(version) => (0, PbTargetUnion::Version(*version)),
        Target::CreateRevision(revision) => (1, PbTargetUnion::CreateRevision(*revision)),
        Target::ModRevision(revision) => (2, PbTargetUnion::ModRevision(*revision)),
        Target::Value(value) => (3, PbTargetUnion::Value(value.to_vec())),
        Target::Lease(lease) => (4, PbTargetUnion::Lease(*lease)),
    };
    PbCompare { result: operator(compare.operator), target, key, target_union: Some(union), range_end }
}

fn operator(operator: Operator) -> i32 {
    match operator {
        Operator::Equal => 0,
        Operator::Greater => 1,
        Operator::Less => 2,
        Operator::NotEqual => 3,
    }
}

/// The answer to a transaction; none if it has something that was not asked for.
pub(super) fn txn_response(answer: PbTxnResponse) -> Option<TxnResponse> {
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let results = answer.responses.into_iter().map(|response| match response.response? {
        PbTxnOpResponse::ResponseRange(answer) => Some(TxnResult::Range(range(answer, revision))),
        PbTxnOpResponse::ResponsePut(answer) => Some(TxnResult::Put { previous: answer.prev_kv.map(KeyValue::from) }),
        PbTxnOpResponse::ResponseDeleteRange(answer) => {
            Some(TxnResult::Delete { previous: answer.prev_kvs.into_iter().map(KeyValue::from).collect() })
        }
        PbTxnOpResponse::ResponseTxn(_) => None,
    });
    Some(TxnResponse { revision, succeeded: answer.succeeded, results: results.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(start: &'static str, end: &'static [u8]) -> (Vec<u8>, Vec<u8>) {
        bounds(&start.into(), &Bytes::from_static(end))
    }

    #[test]
    fn a_range_is_half_open_whatever_an_empty_end_means_to_etcd() {
        assert_eq!(of("/a", b"/b"), (b"/a".to_vec(), b"/b".to_vec()));
        assert_eq!(of("/a", b"\0"), (b"/a".to_vec(), vec![0]));
        assert_eq!(of("", b"\0"), (vec![0], vec![0]));
        let nothing = (vec![1], vec![1]);
        assert_eq!(of("/a", b""), nothing);
        assert_eq!(of("", b""), nothing);
        assert_eq!(of("/b", b"/a"), nothing);
    }

    #[test]
    fn an_event_without_what_was_before_it_is_none() {
        let kv = |create_revision| {
            Some(PbKeyValue { key: b"/a".into(), create_revision, mod_revision: 5, ..Default::default() })
        };
        let put = |create| PbEvent { r#type: 0, kv: kv(create), prev_kv: None };
        assert!(matches!(event(put(5)), Some(Event::Put { previous: None, .. })));
        assert_eq!(event(put(4)), None);
        assert_eq!(event(PbEvent { r#type: DELETE, ..put(0) }), None);
    }
}
