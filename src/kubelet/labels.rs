//! Labels and annotations by which sandboxes and containers are known again after a restart. The names are those of
//! the upstream kubelet, so that other tools on the node know them too.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use sha1::{Digest, Sha1};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// What a running container was made from; another value means that it has to be made anew.
pub(crate) const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// When the pod was to be terminated within, in seconds; for containers of pods that are gone from the API.
pub(crate) const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Labels of a pod's sandbox: its own and the well-known ones.
pub(crate) fn of_pod(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    labels
}

/// Labels of a container.
pub(crate) fn of_container(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let mut labels = identity(pod);
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

/// Annotations of a container.
pub(crate) fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    BTreeMap::from([
        (CONTAINER_HASH.into(), hash(container)),
        (RESTART_COUNT.into(), restart_count.to_string()),
        (GRACE_PERIOD.into(), grace.to_string()),
    ])
}

/// A digest of what of a container can't change while it runs: its name and image.
pub(crate) fn hash(container: &Container) -> String {
    let mut hasher = Sha1::new();
    hasher.update(&container.name);
    hasher.update([0]);
    hasher.update(container.image.as_deref().unwrap_or_default());
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn identity(pod: &Pod) -> BTreeMap<String, String> {
    let metadata = &pod.metadata;
    BTreeMap::from([
        (POD_NAME.into(), metadata.name.clone().unwrap_or_default()),
        (POD_NAMESPACE.into(), metadata.namespace.clone().unwrap_or_default()),
        (POD_UID.into(), metadata.uid.clone().unwrap_or_default()),
    ])
}
