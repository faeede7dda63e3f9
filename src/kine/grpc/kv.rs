//! etcd's KV service: range, put, delete, transactions, compaction.

use std::pin::Pin;

use bytes::Bytes;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbCompare, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseHeader,
    PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{Face, message, range::Asked};
use crate::{Compare, Error, KeyValue, Operator, Target, Txn, TxnOp, TxnResult};

/// Operations in one list of a transaction, as in etcd.
const MOST_OPERATIONS: usize = 128;
/// Keys in one message of a streamed range.
const STREAMED: usize = 100;

#[tonic::async_trait]
impl PbKvService for Face {
    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let asked = Asked::new(request.into_inner())?;
        let range = self.store.range(asked.start.clone(), asked.end.clone(), asked.fetch(), asked.revision).await?;
        let header = self.header(range.revision);
        Ok(Response::new(asked.answer(range, header)))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<PbRangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let mut whole = PbKvService::range(self, request).await?.into_inner();
        let mut parts = Vec::new();
        let kvs = std::mem::take(&mut whole.kvs);
        let mut kvs = kvs.into_iter().peekable();
        while kvs.peek().is_some() {
            let kvs = kvs.by_ref().take(STREAMED).collect();
            parts.push(PbRangeResponse { kvs, ..PbRangeResponse::default() });
        }
        // Header, count and "more" come last.
        match parts.last_mut() {
            Some(last) => *last = PbRangeResponse { kvs: std::mem::take(&mut last.kvs), ..whole },
            None => parts.push(whole),
        }
        let parts = parts.into_iter().map(|part| Ok(PbRangeStreamResponse { range_response: Some(part) }));
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        let with_previous = request.prev_kv;
        let done = self.store.txn(Txn { success: vec![put(request)?], ..Txn::default() }).await?;
        let previous = done.results.into_iter().find_map(|result| match result {
            TxnResult::Put { previous } => previous,
            _ => None,
        });
        Ok(Response::new(put_response(previous, with_previous, self.header(done.revision))))
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        let with_previous = request.prev_kv;
        let done = self.store.txn(Txn { success: vec![delete(request)?], ..Txn::default() }).await?;
        let previous = done.results.into_iter().find_map(|result| match result {
            TxnResult::Delete { previous } => Some(previous),
            _ => None,
        });
        let header = self.header(done.revision);
        Ok(Response::new(delete_response(previous.unwrap_or_default(), with_previous, header)))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let request = request.into_inner();
        let compare = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
        let (success, on_success) = operations(request.success)?;
        let (failure, on_failure) = operations(request.failure)?;
        let done = self.store.txn(Txn { compare, success, failure }).await?;
        let header = self.header(done.revision);
        let answers = if done.succeeded { on_success } else { on_failure };
        let responses = answers.into_iter().zip(done.results).map(|(answer, result)| {
            let response = answer.message(result, header);
            PbResponseOp { response }
        });
        Ok(Response::new(PbTxnResponse { header, succeeded: done.succeeded, responses: responses.collect() }))
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let revision = request.into_inner().revision;
        let status = self.store.status().await?;
        if revision <= status.compacted {
            return Err(Error::Compacted { asked: revision, compacted: status.compacted }.into());
        }
        self.store.compact(revision).await?;
        Ok(Response::new(PbCompactionResponse { header: self.header(status.revision) }))
    }
}

/// What of a result goes into the answer to an operation.
enum Answer {
    Range(Box<Asked>),
    Put { with_previous: bool },
    Delete { with_previous: bool },
}

impl Answer {
    /// The message of a result; none if the result is of another kind, which no datastore returns.
    fn message(&self, result: TxnResult, header: Option<PbResponseHeader>) -> Option<PbTxnOpResponse> {
        match (self, result) {
            (Answer::Range(asked), TxnResult::Range(range)) => {
                Some(PbTxnOpResponse::ResponseRange(asked.answer(range, header)))
            }
            (Answer::Put { with_previous }, TxnResult::Put { previous }) => {
                Some(PbTxnOpResponse::ResponsePut(put_response(previous, *with_previous, header)))
            }
            (Answer::Delete { with_previous }, TxnResult::Delete { previous }) => {
                Some(PbTxnOpResponse::ResponseDeleteRange(delete_response(previous, *with_previous, header)))
            }
            _ => None,
        }
    }
}

fn put_response(previous: Option<KeyValue>, with: bool, header: Option<PbResponseHeader>) -> PbPutResponse {
    PbPutResponse { header, prev_kv: previous.filter(|_| with).map(PbKeyValue::from) }
}

fn delete_response(previous: Vec<KeyValue>, with: bool, header: Option<PbResponseHeader>) -> PbDeleteResponse {
    let deleted = i64::try_from(previous.len()).unwrap_or(i64::MAX);
    let prev_kvs = if with { previous.into_iter().map(PbKeyValue::from).collect() } else { Vec::new() };
    PbDeleteResponse { header, deleted, prev_kvs }
}

/// A list of operations, and how each is answered.
fn operations(requests: Vec<PbTxnRequestOp>) -> Result<(Vec<TxnOp>, Vec<Answer>), Status> {
    if requests.len() > MOST_OPERATIONS {
        return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
    }
    let (mut ops, mut answers) = (Vec::new(), Vec::new());
    for request in requests {
        let (op, answer) = match request.request {
            Some(PbTxnOpRequest::RequestRange(request)) => {
                let asked = Asked::new(request)?;
                (asked.op(), Answer::Range(Box::new(asked)))
            }
            Some(PbTxnOpRequest::RequestPut(request)) => {
                let with_previous = request.prev_kv;
                (put(request)?, Answer::Put { with_previous })
            }
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => {
                let with_previous = request.prev_kv;
                (delete(request)?, Answer::Delete { with_previous })
            }
            Some(PbTxnOpRequest::RequestTxn(_)) => {
                return Err(Status::unimplemented("kine: a transaction within a transaction is not supported"));
            }
            None => return Err(Error::EmptyKey.into()),
        };
        ops.push(op);
        answers.push(answer);
    }
    once_each(&ops)?;
    Ok((ops, answers))
}

/// No key may be written twice by one list.
fn once_each(ops: &[TxnOp]) -> Result<(), Status> {
    let keys: Vec<&Bytes> =
        ops.iter().filter_map(|op| if let TxnOp::Put { key, .. } = op { Some(key) } else { None }).collect();
    let deleted = |key: &Bytes| {
        ops.iter().any(|op| match op {
            TxnOp::Delete { start, end } => start <= key && (*end == crate::UNBOUNDED || key < end),
            _ => false,
        })
    };
    if keys.iter().enumerate().any(|(n, key)| keys[..n].contains(key) || deleted(key)) {
        return Err(Status::invalid_argument("etcdserver: duplicate key given in txn request"));
    }
    Ok(())
}

fn put(request: PbPutRequest) -> Result<TxnOp, Status> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(TxnOp::Put {
        key: request.key.into(),
        value: (!request.ignore_value).then(|| request.value.into()),
        lease: (!request.ignore_lease).then_some(request.lease),
    })
}

fn delete(request: PbDeleteRequest) -> Result<TxnOp, Status> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    let (start, end) = message::bounds(request.key, request.range_end);
    Ok(TxnOp::Delete { start, end })
}

fn compare(compare: PbCompare) -> Result<Compare, Status> {
    if compare.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    let unknown = || Status::invalid_argument("kine: a comparison of an unknown kind");
    let operator = match compare.result {
        0 => Operator::Equal,
        1 => Operator::Greater,
        2 => Operator::Less,
        3 => Operator::NotEqual,
        _ => return Err(unknown()),
    };
    let target = match (compare.target, compare.target_union) {
        (0, Some(PbTargetUnion::Version(version))) => Target::Version(version),
        (1, Some(PbTargetUnion::CreateRevision(revision))) => Target::CreateRevision(revision),
        (2, Some(PbTargetUnion::ModRevision(revision))) => Target::ModRevision(revision),
        (3, Some(PbTargetUnion::Value(value))) => Target::Value(value.into()),
        (4, Some(PbTargetUnion::Lease(lease))) => Target::Lease(lease),
        // What is not said is 0, or empty.
        (0, None) => Target::Version(0),
        (1, None) => Target::CreateRevision(0),
        (2, None) => Target::ModRevision(0),
        (3, None) => Target::Value(Bytes::new()),
        (4, None) => Target::Lease(0),
        _ => return Err(unknown()),
    };
    let (start, end) = message::bounds(compare.key, compare.range_end);
    Ok(Compare { start, end, operator, target })
}
