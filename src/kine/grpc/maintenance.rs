//! etcd's Maintenance service: status, snapshot, defragment, hashes.

use std::pin::Pin;

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService,
    PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest,
    PbStatusResponse,
};
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{ETCD_VERSION, Face, MEMBER_ID, RAFT_TERM};
use crate::{Error, Revision, Snapshot, UNBOUNDED};

/// Keys that are hashed at once.
const HASHED: i64 = 500;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbMaintenanceService for Face {
    async fn alarm(&self, request: Request<PbAlarmRequest>) -> Answer<PbAlarmResponse> {
        const ACTIVATE: i32 = 1;
        if request.into_inner().action == ACTIVATE {
            return Err(Status::unimplemented("kine: there are no alarms; a full disk shows in each write"));
        }
        let header = self.header(self.store.current_revision().await?);
        Ok(Response::new(PbAlarmResponse { header, alarms: Vec::new() }))
    }

    async fn status(&self, _: Request<PbStatusRequest>) -> Answer<PbStatusResponse> {
        let status = self.store.status().await?;
        let index = status.revision.unsigned_abs();
        Ok(Response::new(PbStatusResponse {
            header: self.header(status.revision),
            version: ETCD_VERSION.into(),
            db_size: signed(status.size),
            leader: MEMBER_ID,
            raft_index: index,
            raft_term: RAFT_TERM,
            raft_applied_index: index,
            db_size_in_use: signed(status.size_in_use),
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Answer<PbDefragmentResponse> {
        self.store.defragment().await?;
        Ok(Response::new(PbDefragmentResponse { header: self.header(self.store.current_revision().await?) }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Answer<PbHashResponse> {
        let (revision, hash) = self.hash_at(0).await?;
        Ok(Response::new(PbHashResponse { header: self.header(revision), hash }))
    }

    async fn hash_kv(&self, request: Request<PbHashKvRequest>) -> Answer<PbHashKvResponse> {
        let status = self.store.status().await?;
        let (revision, hash) = self.hash_at(request.into_inner().revision).await?;
        Ok(Response::new(PbHashKvResponse {
            header: self.header(status.revision),
            hash,
            compact_revision: status.compacted,
            hash_revision: revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<PbSnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Answer<Self::SnapshotStream> {
        let snapshot = self.store.snapshot().await?;
        let header = self.header(self.store.current_revision().await?);
        let part = move |blob, remaining_bytes| PbSnapshotResponse {
            header,
            remaining_bytes,
            blob,
            version: ETCD_VERSION.into(),
        };
        let parts = stream::unfold(Some(Sending::new(snapshot)), move |sending| {
            async move {
                let mut sending = sending?;
                match sending.next().await {
                    Ok(Some(blob)) => Some((Ok(part(blob, sending.remaining)), Some(sending))),
                    // Last the checksum, which etcdctl looks for.
                    Ok(None) => Some((Ok(part(sending.checksum.finalize().to_vec(), 0)), None)),
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Ok(Response::new(parts.take_until(self.closing.clone().cancelled_owned()).boxed()))
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Answer<PbMoveLeaderResponse> {
        Err(Status::unimplemented("kine: there is no other member to lead"))
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Answer<PbDowngradeResponse> {
        Err(Status::unimplemented("kine: there is no version to go back to"))
    }
}

impl Face {
    /// A hash of all keys with their values and revisions at `revision` (0: now), and at which revision that was.
    async fn hash_at(&self, revision: Revision) -> Result<(Revision, u32), Error> {
        let revision = if revision > 0 { revision } else { self.store.current_revision().await? };
        let mut hash = Sha256::new();
        let mut start = bytes::Bytes::new();
        loop {
            let range = self.store.range(start, UNBOUNDED, HASHED, revision).await?;
            for kv in &range.kvs {
                for bytes in [&kv.key, &kv.value] {
                    hash.update(bytes.len().to_be_bytes());
                    hash.update(bytes);
                }
                hash.update(kv.create_revision.to_be_bytes());
                hash.update(kv.mod_revision.to_be_bytes());
            }
            let Some(last) = range.kvs.last().filter(|_| range.more) else { break };
            start = [last.key.as_ref(), b"\0"].concat().into();
        }
        let hash: [u8; 32] = hash.finalize().into();
        Ok((revision, u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])))
    }
}

/// A snapshot on its way.
struct Sending {
    snapshot: Snapshot,
    remaining: u64,
    checksum: Sha256,
}

impl Sending {
    fn new(snapshot: Snapshot) -> Self {
        let remaining = snapshot.size;
        Self { snapshot, remaining, checksum: Sha256::new() }
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        match self.snapshot.chunks.recv().await {
            Some(chunk) => {
                let chunk = chunk?;
                self.checksum.update(&chunk);
                self.remaining = self.remaining.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                Ok(Some(chunk.into()))
            }
            None if self.remaining == 0 => Ok(None),
            None => Err(Error::Closed.into()),
        }
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
