//! Range requests: what of them the datastore does, and what is done with its answer.

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse, PbResponseHeader};
use tonic::Status;

use super::message;
use crate::{Error, KeyValue, Range, Revision, TxnOp};

/// A range request.
pub(super) struct Asked {
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    pub(super) revision: Revision,
    limit: i64,
    order: Order,
    by: Target,
    keys_only: bool,
    count_only: bool,
    /// Lowest and highest revisions that are wanted; 0: any.
    modified: (Revision, Revision),
    created: (Revision, Revision),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AsItIs,
    Ascending,
    Descending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Key,
    Version,
    Create,
    Mod,
    Value,
}

impl Asked {
    pub(super) fn new(request: PbRangeRequest) -> Result<Self, Status> {
        if request.key.is_empty() {
            return Err(Error::EmptyKey.into());
        }
        let invalid = || Status::invalid_argument("etcdserver: invalid sort option");
        let by = match request.sort_target {
            0 => Target::Key,
            1 => Target::Version,
            2 => Target::Create,
            3 => Target::Mod,
            4 => Target::Value,
            _ => return Err(invalid()),
        };
        let order = match request.sort_order {
            // By anything but the key, no order means ascending.
            0 if by != Target::Key => Order::Ascending,
            0 => Order::AsItIs,
            1 if by == Target::Key => Order::AsItIs,
            1 => Order::Ascending,
            2 => Order::Descending,
            _ => return Err(invalid()),
        };
        let (start, end) = message::bounds(request.key, request.range_end);
        Ok(Self {
            start,
            end,
            revision: request.revision.max(0),
            limit: request.limit.max(0),
            order,
            by,
            keys_only: request.keys_only,
            count_only: request.count_only,
            modified: (request.min_mod_revision, request.max_mod_revision),
            created: (request.min_create_revision, request.max_create_revision),
        })
    }

    /// How many keys the datastore is to return (0: all), so that the right ones are among them.
    pub(super) fn fetch(&self) -> i64 {
        let chosen_later = self.order != Order::AsItIs || self.modified != (0, 0) || self.created != (0, 0);
        match () {
            () if self.count_only => 1,
            () if chosen_later => 0,
            () => self.limit,
        }
    }

    pub(super) fn op(&self) -> TxnOp {
        TxnOp::Range { start: self.start.clone(), end: self.end.clone(), limit: self.fetch(), revision: self.revision }
    }

    /// The answer, out of what the datastore returned for [`Asked::fetch`].
    pub(super) fn answer(&self, range: Range, header: Option<PbResponseHeader>) -> PbRangeResponse {
        if self.count_only {
            return PbRangeResponse { header, count: range.count, ..PbRangeResponse::default() };
        }
        let within = |revision, (low, high): (Revision, Revision)| {
            (low <= 0 || revision >= low) && (high <= 0 || revision <= high)
        };
        let mut kvs = range.kvs;
        kvs.retain(|kv| within(kv.mod_revision, self.modified) && within(kv.create_revision, self.created));
        self.sort(&mut kvs);
        let limit = usize::try_from(self.limit).unwrap_or(0);
        let mut more = range.more;
        if limit > 0 && kvs.len() > limit {
            kvs.truncate(limit);
            more = true;
        }
        let kvs = kvs.into_iter().map(|mut kv| {
            if self.keys_only {
                kv.value = Bytes::new();
            }
            PbKeyValue::from(kv)
        });
        PbRangeResponse { header, kvs: kvs.collect(), more, count: range.count }
    }

    fn sort(&self, kvs: &mut [KeyValue]) {
        if self.order == Order::AsItIs {
            return;
        }
        kvs.sort_by(|a, b| {
            let ordering = match self.by {
                Target::Key => a.key.cmp(&b.key),
                Target::Version => a.version.cmp(&b.version),
                Target::Create => a.create_revision.cmp(&b.create_revision),
                Target::Mod => a.mod_revision.cmp(&b.mod_revision),
                Target::Value => a.value.cmp(&b.value),
            };
            if self.order == Order::Descending { ordering.reverse() } else { ordering }
        });
    }
}
