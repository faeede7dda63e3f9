//! etcd's Lease service.

use std::{pin::Pin, time::Duration};

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::Face;
use crate::Error;

#[tonic::async_trait]
impl PbLeaseService for Face {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let lease = self.store.lease_grant(request.id, request.ttl).await?;
        let header = self.header(self.store.current_revision().await?);
        Ok(Response::new(PbLeaseGrantResponse { header, id: lease.id, ttl: lease.ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let revision = self.store.lease_revoke(request.into_inner().id).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: self.header(revision) }))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<PbLeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let face = self.clone();
        let closing = self.closing.clone();
        let answers = stream::unfold((face, request.into_inner()), async |(face, mut requests)| {
            let request = match requests.next().await? {
                Ok(request) => request,
                Err(error) => return Some((Err(error), (face, requests))),
            };
            Some((face.keep_alive(request.id).await, (face, requests)))
        });
        Ok(Response::new(answers.take_until(closing.cancelled_owned()).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let header = self.header(self.store.current_revision().await?);
        let lease = match self.store.lease_time_to_live(id).await {
            Ok(lease) => lease,
            // No error to etcd, but a time to live of -1.
            Err(Error::LeaseNotFound { .. }) => {
                let gone = PbLeaseTimeToLiveResponse { header, id, ttl: -1, ..PbLeaseTimeToLiveResponse::default() };
                return Ok(Response::new(gone));
            }
            Err(error) => return Err(error.into()),
        };
        let keys = if keys { self.store.lease_keys(id).await? } else { Vec::new() };
        Ok(Response::new(PbLeaseTimeToLiveResponse {
            header,
            id,
            ttl: seconds(lease.remaining),
            granted_ttl: lease.ttl,
            keys: keys.into_iter().map(Vec::from).collect(),
        }))
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let leases = self.store.leases().await?.into_iter().map(|id| PbLeaseStatus { id }).collect();
        let header = self.header(self.store.current_revision().await?);
        Ok(Response::new(PbLeaseLeasesResponse { header, leases }))
    }
}

impl Face {
    async fn keep_alive(&self, id: i64) -> Result<PbLeaseKeepAliveResponse, Status> {
        let ttl = match self.store.lease_keep_alive(id).await {
            Ok(lease) => lease.ttl,
            // By this a client learns that it is gone.
            Err(Error::LeaseNotFound { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(PbLeaseKeepAliveResponse { header: self.header(self.store.current_revision().await?), id, ttl })
    }
}

/// Whole seconds: the lease ends in less than one more than that.
fn seconds(remaining: Duration) -> i64 {
    i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX)
}
