//! Work that the API server does on stored objects by itself: done once at the start and again after every change.

use std::sync::Weak;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select_all};
use jiff::Timestamp;
use k3s_api::apply::{Writer, reset_fields};
use k3s_api::object::{self, section_mut};
use k3s_api::resource::Resource;
use k3s_api::time;
use serde_json::{Value, json};

use crate::registry::{self, Entry, Registry};
use crate::{ApiServer, Inner};

/// How long to wait after a failure, and for what no change will tell of.
const RETRY: Duration = Duration::from_secs(1);

/// When the work is to be done again though nothing changes.
pub(crate) enum Again {
    /// Not at all.
    No,
    After(Duration),
}

/// Calls `work` whenever an object of one of the resources changes, as long as the server lives.
pub(crate) async fn follow<F>(server: Weak<Inner>, resources: &[&'static Resource], work: F)
where
    F: for<'a> Fn(&'a ApiServer) -> BoxFuture<'a, Result<Again, registry::Error>>,
{
    loop {
        let Some(inner) = server.upgrade() else { return };
        let server_now = ApiServer { inner };
        let mut changes = Vec::new();
        for resource in resources {
            if let Ok(cache) = server_now.registry().cache(resource).await {
                let mut changed = cache.subscribe();
                changed.mark_unchanged();
                changes.push(async move { changed.changed().await.is_ok() }.boxed());
            }
        }
        let again = if changes.len() == resources.len() { work(&server_now).await } else { Ok(Again::After(RETRY)) };
        let wait = match again {
            Ok(Again::No) => None,
            Ok(Again::After(wait)) => Some(wait),
            Err(error) => {
                tracing::warn!(%error, "work of the API server itself failed; it is tried again");
                Some(RETRY)
            }
        };
        let stopped = server_now.inner.stop.clone();
        drop(server_now);
        let sleep = async { tokio::time::sleep(wait.unwrap_or_default()).await };
        tokio::select! {
            _ = select_all(changes), if !resources.is_empty() => {}
            () = sleep, if wait.is_some() => {}
            () = stopped.cancelled() => return,
        }
    }
}

/// Sets a condition of the status. `false` if it is as it should be already, its time aside.
pub(crate) fn set_condition(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str) -> bool {
    let conditions = section_mut(object, "status").entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let mut condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time::format_seconds(Timestamp::now()),
    });
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if *old == condition {
                return false;
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    true
}

/// Stores a status that the API server itself keeps. Who was faster has caused a change, after which it is tried again.
pub(crate) async fn write_status(
    registry: &Registry,
    row: &Resource,
    entry: &Entry,
    mut new: Value,
) -> Result<(), registry::Error> {
    let old = entry.value()?;
    if new == *old {
        return Ok(());
    }
    let reset = reset_fields(true, false, "status");
    let writer = Writer {
        schema: row.schema(),
        api_version: &row.api_version(),
        kind: &row.kind,
        subresource: "status",
        manager: "kube-apiserver",
        reset: &reset,
        now: Timestamp::now(),
    };
    writer.update(Some(&old), &mut new);
    registry.update(row, entry.key(), entry.revision(), object::encode(&new), 0).await.map(drop)
}
