use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};

use crate::framework::{MAX_SCORE, Score};
use crate::node::NodeInfo;

/// Prefers nodes with fewer pods of the same controller.
pub struct SelectorSpread;

impl Score for SelectorSpread {
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let owner = |pod: &Pod| {
            let mut owners = pod.meta().owner_references.iter().flatten();
            owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
        };
        let Some(own) = owner(pod) else { return 0 };
        let namespace = pod.namespace();
        let same = |other: &&std::sync::Arc<Pod>| other.namespace() == namespace && owner(other).as_ref() == Some(&own);
        let count = node.pods.values().filter(same).count();
        MAX_SCORE / (1 + i64::try_from(count).unwrap_or(i64::MAX - 1))
    }
}
