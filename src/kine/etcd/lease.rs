//! Leases: etcd's own.

use std::time::Duration;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse,
};

use super::{
    cluster::{Cluster, Repeat},
    failure::Failure,
    method,
};
use crate::{Lease, LeaseId, Revision};

/// Grants a lease.
pub(super) async fn grant(cluster: &Cluster, id: LeaseId, ttl: i64) -> Result<Lease, Failure> {
    let request = PbLeaseGrantRequest { ttl: ttl.max(1), id };
    // One without a name that nobody heard of ends by itself; one with a name would be found to be there.
    let repeat = if id == 0 { Repeat::Always } else { Repeat::IfNothingDone };
    let granted: PbLeaseGrantResponse = cluster.ask(method::LEASE_GRANT, request, repeat).await?;
    Ok(Lease { id: granted.id, ttl: granted.ttl, remaining: seconds(granted.ttl) })
}

/// Starts its time anew; none if it is not there.
pub(super) async fn keep_alive(cluster: &Cluster, id: LeaseId) -> Result<Option<Lease>, Failure> {
    let request = PbLeaseKeepAliveRequest { id };
    let kept: PbLeaseKeepAliveResponse = cluster.ask_first(method::LEASE_KEEP_ALIVE, request).await?;
    Ok((kept.ttl > 0).then(|| Lease { id, ttl: kept.ttl, remaining: seconds(kept.ttl) }))
}

/// Ends it. Returns etcd's revision after that.
pub(super) async fn revoke(cluster: &Cluster, id: LeaseId) -> Result<Revision, Failure> {
    let request = PbLeaseRevokeRequest { id };
    let revoked: PbLeaseRevokeResponse = cluster.ask(method::LEASE_REVOKE, request, Repeat::IfNothingDone).await?;
    Ok(revoked.header.map_or(0, |header| header.revision))
}

/// How it is, and the keys attached to it, in their order; none if it is not there.
pub(super) async fn look(cluster: &Cluster, id: LeaseId) -> Result<Option<(Lease, Vec<Vec<u8>>)>, Failure> {
    let request = PbLeaseTimeToLiveRequest { id, keys: true };
    let mut there: PbLeaseTimeToLiveResponse = cluster.ask(method::LEASE_TIME_TO_LIVE, request, Repeat::Always).await?;
    if there.ttl < 0 {
        return Ok(None);
    }
    there.keys.sort();
    Ok(Some((Lease { id, ttl: there.granted_ttl, remaining: seconds(there.ttl) }, there.keys)))
}

/// The leases there are.
pub(super) async fn list(cluster: &Cluster) -> Result<Vec<LeaseId>, Failure> {
    let all: PbLeaseLeasesResponse = cluster.ask(method::LEASES, PbLeaseLeasesRequest {}, Repeat::Always).await?;
    let mut ids: Vec<_> = all.leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
