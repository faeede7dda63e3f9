//! Finding pods and containers that a request names.

use std::sync::Arc;

use http::StatusCode;
use k3s_cri::{ContainerState, ContainerStatus};
use k3s_streaming::Refusal;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::context::Context;
use crate::pod::observed::Observed;
use crate::pod::spec;

/// A container as paths name it: namespace, pod, name.
pub(super) type Path<'a> = (&'a str, &'a str, &'a str);

/// The pods of this node as a list; `running`: those that have not ended.
pub(super) fn pods(ctx: &Context, running: bool) -> Value {
    let mut pods = ctx.pods.list();
    pods.retain(|pod| !running || !spec::has_ended(pod));
    pods.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    let items: Vec<&Pod> = pods.iter().map(|pod| pod.as_ref()).collect();
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items })
}

pub(super) fn pod(ctx: &Context, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    ctx.pods
        .get(Some(namespace), name)
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("pod \"{name}\" in namespace \"{namespace}\" not found")))
}

/// What the runtime has of a pod.
pub(super) async fn observed(ctx: &Context, pod: &Pod) -> Result<Observed, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    Observed::read(ctx.runtime.as_ref(), uid)
        .await
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot ask the runtime: {error}")))
}

/// A container that runs.
pub(super) async fn running(ctx: &Context, path: Path<'_>) -> Result<(Arc<Pod>, ContainerStatus), Refusal> {
    let (namespace, name, container) = path;
    let pod = pod(ctx, namespace, name)?;
    let observed = observed(ctx, &pod).await?;
    match observed.newest(container) {
        Some(run) if run.state == ContainerState::Running => Ok((pod, run.clone())),
        _ => Err(Refusal(StatusCode::NOT_FOUND, format!("container not found (\"{container}\")"))),
    }
}
