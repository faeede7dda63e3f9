//! What the server itself says of some objects in their status.
//!
//! Loops of the server see to it, at their own time. A client that reads its object right after it has written it
//! expects it there all the same, as it is with Kubernetes, whose loops are no slower than its own answers.

use std::time::Duration;

use tokio::time::timeout;

use crate::admission::resource_quota::recount;
use crate::aggregator::availability;
use crate::call::Call;
use crate::custom_resources;
use crate::flow_control;

/// How long a write waits for it. A server behind an `APIService` may hang; then its loop goes on alone.
const PATIENCE: Duration = Duration::from_millis(250);

/// Waits a moment until what configures admission has been seen by it: who has written a webhook or policy expects it to
/// be asked about the next write.
pub(crate) async fn catch_up(call: &Call) {
    if call.row.group != "admissionregistration.k8s.io" {
        return;
    }
    match timeout(PATIENCE, call.registry().catch_up()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "webhooks and policies take effect later"),
        Err(_) => tracing::debug!("webhooks and policies take longer to take effect"),
    }
}

/// Waits a moment until the server has said what it has to say of the object that was written. The write itself is done,
/// so nothing here can fail it.
pub(crate) async fn settle(call: &Call) {
    catch_up(call).await;
    let server = &call.server;
    let said = async {
        match (&*call.row.group, &*call.row.plural) {
            ("flowcontrol.apiserver.k8s.io", _) => flow_control::reconcile(server).await.map(drop),
            ("apiregistration.k8s.io", "apiservices") => availability::reconcile(server).await.map(drop),
            ("apiextensions.k8s.io", "customresourcedefinitions") => {
                custom_resources::reconcile(server).await.map(drop)
            }
            ("", "resourcequotas") if server.config().count_quotas => {
                recount::count(call.registry(), server.charges(), &call.info.namespace).await
            }
            _ => Ok(()),
        }
    };
    match timeout(PATIENCE, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, resource = &*call.row.plural, "its status comes later"),
        Err(_) => tracing::debug!(resource = &*call.row.plural, "its status takes longer"),
    }
}
