//! Compaction, which etcd does not do by itself as API servers need it. One of those that share a cluster does it: they
//! agree by the key `compact_rev_key`, as Kubernetes' own API servers do, so those can be among them.
//! Source: <https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/storage/etcd3/compact.go>.

use std::{sync::Arc, time::Duration};

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbCompare, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use super::{
    cluster::{Cluster, Repeat},
    failure::{Failure, Refusal},
    message, method,
};
use crate::{Metrics, Revision, table::COMPACT_REV_KEY, watch::Hub};

/// Who compacts by itself.
pub(super) struct Compactor {
    pub(super) cluster: Arc<Cluster>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Metrics,
    pub(super) interval: Duration,
    pub(super) retain: Revision,
}

impl Compactor {
    /// Compacts now and then until it is dropped. What happened since the last time stays, so that a client with a list
    /// or watch of some minutes ago can go on from there.
    pub(super) async fn run(self) {
        // The version of the key as it was last seen; who changes it from there has the turn.
        let mut version = 0;
        let mut previous: Revision = 0;
        loop {
            tokio::time::sleep(self.interval).await;
            let target = previous.min(self.hub.current() - self.retain);
            match self.turn(version, target).await {
                Ok((seen, now, done)) => {
                    (version, previous) = (seen, now);
                    if done {
                        self.metrics.compacted(true);
                        self.metrics.compact_revision(target);
                    }
                }
                Err(error) => {
                    self.metrics.compacted(false);
                    tracing::warn!(%error, "cannot compact etcd; trying again later");
                }
            }
        }
    }

    /// Compacts up to `target`, if no other has done so since `version`. Returns the version of the key and etcd's
    /// revision, and whether it was done.
    async fn turn(&self, version: i64, target: Revision) -> Result<(i64, Revision, bool), Failure> {
        let key = COMPACT_REV_KEY.as_bytes().to_vec();
        let compare = PbCompare {
            result: 0,
            target: 0,
            key: key.clone(),
            target_union: Some(PbTargetUnion::Version(version)),
            range_end: Vec::new(),
        };
        let value = target.max(0).to_string().into_bytes();
        let put = PbTxnOpRequest::RequestPut(PbPutRequest { key: key.clone(), value, ..PbPutRequest::default() });
        let get = PbTxnOpRequest::RequestRange(PbRangeRequest { key, ..PbRangeRequest::default() });
        let list = |op| vec![PbTxnRequestOp { request: Some(op) }];
        let request = PbTxnRequest { compare: vec![compare], success: list(put), failure: list(get) };
        let answer: PbTxnResponse = self.cluster.ask(method::TXN, request, Repeat::IfNothingDone).await?;
        let now = answer.header.as_ref().map_or(0, |header| header.revision);
        if !answer.succeeded {
            return Ok((message::found(answer).map_or(0, |kv| kv.version), now, false));
        }
        if target > 0 {
            compact(&self.cluster, &self.hub, target).await?;
        }
        Ok((version + 1, now, target > 0))
    }
}

/// Forgets what was superseded up to `target`.
pub(super) async fn compact(cluster: &Cluster, hub: &Hub, target: Revision) -> Result<(), Failure> {
    let request = PbCompactionRequest { revision: target, physical: false };
    match cluster.ask::<_, PbCompactionResponse>(method::COMPACT, request, Repeat::Always).await {
        Ok(_) => {
            cluster.compacted_upto(target);
            hub.compacted(target);
            tracing::debug!(revision = target, "compacted");
            Ok(())
        }
        // Another one did, and perhaps more.
        Err(Failure::Refused(Refusal::Compacted)) => Ok(()),
        Err(failure) => Err(failure),
    }
}
