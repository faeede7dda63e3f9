//! Empties namespaces that are being deleted, then lets them go.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kube::api::{DeleteParams, ListParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::discovery::{Served, served};
use crate::queue::Queue;
use crate::{Context, Error, each_change, is_status};

/// How long to wait before looking again at a namespace that still has content.
const RETRY: Duration = Duration::from_millis(500);

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<String> = Queue::default();
    let namespaces = informers.of::<Namespace>();
    let client = context.client.clone();
    let adder = queue.clone();
    tokio::join!(
        each_change(namespaces.clone(), cancel.clone(), |namespace| {
            if namespace.metadata.deletion_timestamp.is_some() {
                adder.add(namespace.name_any());
            }
        }),
        queue.clone().run("namespace", 4, cancel.clone(), |name| {
            let namespace = namespaces.get(None, &name).filter(|it| it.metadata.deletion_timestamp.is_some());
            let (client, queue) = (client.clone(), queue.clone());
            async move {
                let Some(namespace) = namespace else { return Ok(()) };
                if finalize(&client, &namespace).await? == Progress::ContentRemains {
                    queue.add_after(name, RETRY);
                }
                Ok::<_, Error>(())
            }
        }),
    );
}

#[derive(PartialEq, Eq)]
enum Progress {
    Gone,
    ContentRemains,
}

async fn finalize(client: &Client, namespace: &Namespace) -> Result<Progress, Error> {
    let name = namespace.name_any();
    let mut remaining = Vec::new();
    let namespaced = |it: &Served| it.namespaced && it.can(&["deletecollection", "list"]);
    for Served { resource, .. } in served(client).await?.into_iter().filter(namespaced) {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, &resource);
        let deleted = api.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
        if is_status(&deleted, 404) || is_status(&deleted, 405) {
            continue;
        }
        deleted?;
        let left = api.list_metadata(&ListParams::default()).await?.items.len();
        if left > 0 {
            remaining.push(format!("{}.{} has {left} resource instances", resource.plural, resource.group));
        }
    }
    if !remaining.is_empty() {
        tracing::debug!(namespace = name, ?remaining, "namespace still has content");
        set_conditions(client, &name, &remaining).await?;
        return Ok(Progress::ContentRemains);
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let current = match api.get_opt(&name).await? {
        Some(current) if current.uid() == namespace.uid() => current,
        _ => return Ok(Progress::Gone),
    };
    let mut finalized = current;
    if let Some(spec) = &mut finalized.spec {
        spec.finalizers = spec.finalizers.take().map(|all| all.into_iter().filter(|one| one != "kubernetes").collect());
    }
    let body = serde_json::to_vec(&finalized)?;
    let request = http_put(&format!("/api/v1/namespaces/{name}/finalize"), body)?;
    let result = client.request::<serde_json::Value>(request).await;
    if is_status(&result, 404) {
        return Ok(Progress::Gone);
    }
    result?;
    Ok(Progress::Gone)
}

fn http_put(path: &str, body: Vec<u8>) -> Result<http::Request<Vec<u8>>, Error> {
    http::Request::put(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| Error::Invalid(error.to_string()))
}

async fn set_conditions(client: &Client, name: &str, remaining: &[String]) -> Result<(), Error> {
    let now = k8s_openapi::jiff::Timestamp::now();
    let condition = |kind: &str, status: &str, reason: &str, message: String| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    let conditions = json!([
        condition(
            "NamespaceDeletionContentFailure",
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned()
        ),
        condition(
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", remaining.join(", "))
        ),
    ]);
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await? else { return Ok(()) };
    let said = |all: &Namespace| all.status.as_ref().and_then(|it| it.conditions.clone()).unwrap_or_default();
    let before = said(&namespace);
    let conditions: Vec<NamespaceCondition> = serde_json::from_value(conditions)?;
    let same = |a: &NamespaceCondition, b: &NamespaceCondition| a.type_ == b.type_ && a.message == b.message;
    if conditions.iter().all(|new| before.iter().any(|old| same(old, new))) {
        return Ok(());
    }
    namespace.status.get_or_insert_default().conditions = Some(conditions);
    let result = api.replace_status(name, &kube::api::PostParams::default(), &namespace).await;
    // Changed meanwhile: the next look does it.
    if is_status(&result, 409) {
        return Ok(());
    }
    if is_status(&result, 404) {
        return Ok(());
    }
    result?;
    Ok(())
}
