//! Who runs a pod's containers: the handler of its RuntimeClass.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use crate::context::Context;

/// The handler that the pod's RuntimeClass names; empty for a pod without one. Looked up each time a sandbox is made,
/// which is seldom.
///
/// # Errors
/// The class is not there, or the API does not say.
pub(super) async fn handler(ctx: &Context, pod: &Pod) -> Result<String, String> {
    let name = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()).filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(String::new()) };
    match Api::<RuntimeClass>::all(ctx.client.clone()).get_opt(name).await {
        Ok(Some(class)) => Ok(class.handler),
        Ok(None) => Err(format!("failed to get RuntimeClass: runtimeclass.node.k8s.io {name:?} not found")),
        Err(error) => Err(format!("failed to get RuntimeClass {name:?}: {error}")),
    }
}
