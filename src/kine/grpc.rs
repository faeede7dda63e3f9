//! The datastore's other face: etcd v3 over gRPC, on a unix socket or TCP, for `etcdctl` and any other client of etcd.
//!
//! Messages and service traits are those of the `etcd-client` crate, made from etcd's own definitions. What differs from
//! etcd: a transaction of several writes takes several revisions ([`Txn`](crate::Txn)), transactions don't nest, a
//! cluster has one member, and there are no users: who may connect is decided by the socket's mode or by TLS.
//! Source: <https://etcd.io/docs/v3.5/learning/api/>.

mod address;
mod auth;
mod authority;
mod cluster;
mod kv;
mod lease;
mod listener;
mod maintenance;
mod message;
mod range;
mod status;
mod tls;
mod watch;

use std::{sync::Arc, time::Duration};

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbResponseHeader, PbWatchServer,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server as Transport;

pub use self::{
    address::{Address, AddressError},
    listener::{ListenError, Listener},
    tls::{Tls, TlsError},
};
use crate::{Datastore, Revision};

/// The version of etcd whose behaviour this is; clients decide by it what they may ask for.
pub const ETCD_VERSION: &str = "3.5.13";

/// How long open connections have at the end to take what was sent to them.
const GRACE: Duration = Duration::from_secs(2);
/// The largest request. etcd takes 1.5 MiB, which clients know; above that it is the database that has limits.
const LARGEST_REQUEST: usize = 4 << 20;

/// The one member of the cluster, and the cluster.
const MEMBER_ID: u64 = 1;
const CLUSTER_ID: u64 = 1;
const RAFT_TERM: u64 = 1;

/// What the services share.
#[derive(Clone)]
struct Face {
    store: Arc<dyn Datastore>,
    /// Streams that would never end do at this.
    closing: CancellationToken,
    /// Where clients reach it.
    url: String,
}

impl Face {
    fn header(&self, revision: Revision) -> Option<PbResponseHeader> {
        Some(PbResponseHeader { cluster_id: CLUSTER_ID, member_id: MEMBER_ID, revision, raft_term: RAFT_TERM })
    }
}

/// Serves `store` on `listener` until `closing` is cancelled, then ends all streams and waits a moment for connections
/// to take it.
///
/// # Errors
/// What tonic says if it can't go on serving; single connections that break are no error.
pub async fn serve(
    store: Arc<dyn Datastore>,
    listener: Listener,
    closing: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let face = Face { store, closing: closing.child_token(), url: listener.url() };
    let router = Transport::builder()
        .max_concurrent_streams(u32::MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // A client that is gone without a word, with watches open.
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(PbKvServer::new(face.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(PbWatchServer::new(face.clone()))
        .add_service(PbLeaseServer::new(face.clone()))
        .add_service(PbMaintenanceServer::new(face.clone()))
        .add_service(PbClusterServer::new(face))
        .add_service(auth::Refused);
    let serving = router.serve_with_incoming_shutdown(listener.incoming(), closing.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = closing.cancelled() => {}
    }
    match tokio::time::timeout(GRACE, serving).await {
        Ok(served) => served,
        Err(_) => {
            tracing::debug!("closed etcd connections that did not end by themselves");
            Ok(())
        }
    }
}
